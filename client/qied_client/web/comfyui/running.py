"""A prompt carried out: an edit for each node that saves, and what listeners are told on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from qied_client.aio import AsyncClient, AsyncJob
from qied_client.aio.client import new_id, seed_of
from qied_client.errors import InvalidRequest, QiedError
from qied_client.inputs import Picture
from qied_client.options import EditOptions
from qied_client.protocol import limits
from qied_client.results import Progress
from qied_client.web.comfyui.errors import ComfyError, node_errors, refused_graph
from qied_client.web.comfyui.names import annotated
from qied_client.web.comfyui.prompt import Prompt, now_ms
from qied_client.web.comfyui.sockets import PNG, preview_frame, preview_frame_with_metadata
from qied_client.web.comfyui.space import Space
from qied_client.web.comfyui.uploads import Uploads
from qied_client.web.http.bodies import BODY_BYTES
from qied_client.web.pixels.workshop import Workshop
from qied_client.web.users import Users
from qied_client.workflows import PREVIEWS, Served, Workflow, WorkflowRequest, examine, read_workflow, requests_of
from qied_client.workflows.files import MakePicture, MaskFile, PictureFile, Pictures

T = TypeVar("T")
_FETCH_S: Final = 120.0
_DRAWING: Final = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_PICTURES_BYTES: Final = BODY_BYTES
"""Most bytes of the pictures that one output needs, or that a graph names: as many as a form may have."""
_THREADS: Final = 4
"""Of which a user takes two at most: for a graph that comes, and for the pictures of one that runs."""
_SHOWN: Final = "SaveImageWebsocket"
"""The node whose pictures go to the listener, and to no file."""


class Runner:
    """Carries out the prompts of all users."""

    def __init__(self, users: Users, uploads: Uploads, workshop: Workshop) -> None:
        self._users = users
        self._workshop = workshop
        self._uploads = uploads
        # Of their own: reading a graph waits for pictures, which the loop fetches with threads of its own.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="graphs")

    async def examined(
        self, space: Space, graph: Mapping[str, Any], only: Sequence[str]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The nodes of a graph that save what can be made for a user, and what is wrong with others.

        Raises ComfyError where there are none of the first kind, and InvalidRequest for what is not a graph.
        """
        async with self._users.client(space.user) as client:
            served, find = await _served(client), self._finder(space)
            return await self._in_thread(lambda: _examined(graph, Pictures(find, _as_it_is), served, only))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do it in a thread. Cancelled, it waits for the end, so that no user has more under way than it may."""
        doing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(doing)
        finally:
            while not doing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({doing})

    async def run(self, space: Space, prompt: Prompt) -> None:
        """Carry out a prompt to its end, whatever that is; cancelled while it is ``stopping``, it is interrupted."""
        telling = _Telling(space, prompt)
        try:
            async with self._users.client(space.user) as client:
                served = await _served(client)
                prompt.workflow = await self._in_thread(lambda: read_workflow(prompt.graph))
                telling.whole("execution_start")
                telling.whole("execution_cached", nodes=[])
                outputs = [self._output(client, served, space, prompt, telling, node) for node in prompt.targets]
                await _together(outputs)
        except asyncio.CancelledError:
            if not prompt.stopping:  # the gateway ends, and the daemon's jobs go on
                raise
            await asyncio.shield(self._cancelled(space, prompt))
            telling.interrupted()
        except QiedError as error:
            if prompt.jobs:
                await self._cancelled(space, prompt)
            telling.failed(error)
        except Exception:
            await self._cancelled(space, prompt)
            raise
        else:
            telling.succeeded()
        finally:
            prompt.workflow = None

    async def result(self, space: Space, job: str) -> bytes:
        """The picture of a job, from the daemon; raises UnknownJob and its kinds where that has it no more."""
        async with self._users.client(space.user) as client:
            return (await (await client.job(job)).result()).bytes

    async def _output(
        self, client: AsyncClient, served: Served, space: Space, prompt: Prompt, telling: _Telling, node: str
    ) -> None:
        """Have the edits of one node made, one after the other, and tell of them as of its sampler."""
        workflow = prompt.workflow
        assert workflow is not None, "it is read before anything runs"
        drawing = _drawing_node(workflow, node)
        async with space.preparing:
            pictures = Pictures(self._finder(space), self._maker(space))
            (request,) = await self._in_thread(lambda: requests_of(workflow, pictures, served, only=[node]))
            jobs = [await self._submitted(client, prompt, request, number) for number in range(request.count)]
            request = replace(request, images=(), mask=None, canvas=None, redraw=())  # the daemon has them
        for number, job in enumerate(jobs):
            async for progress in job.events():
                telling.progress(drawing, progress, number, len(jobs))
            outcome = await job.outcome()
            if (error := outcome.error()) is not None:
                error.details["node"] = drawing
                raise error
            if request.class_type == _SHOWN:
                telling.executing(request.node_id)
                telling.shown((await job.result()).bytes)
                prompt.outputs.setdefault(request.node_id, {"images": []})
                continue
            folder = "temp" if request.class_type in PREVIEWS else "output"
            name = space.save(request.filename_prefix, folder, outcome.media_type, job.id)
            prompt.outputs.setdefault(request.node_id, {"images": []})["images"].append(name.facts)
        telling.executed(request.node_id)

    async def _submitted(self, client: AsyncClient, prompt: Prompt, request: WorkflowRequest, number: int) -> AsyncJob:
        name = new_id("comfyui")
        prompt.jobs.append(name)
        # ComfyUI has no cap: a size that is too large for the daemon's machine becomes the nearest that is not.
        options: EditOptions = {"on_cap": "fit", **request.options(), "previews": True}
        first = options.get("seed")
        options["seed"] = ((seed_of(name) if first is None else first) + number) % (limits.SEED + 1)
        return await client.submit(list(request.images), request.prompt, job_id=name, **options)

    async def _cancelled(self, space: Space, prompt: Prompt) -> None:
        """Cancel the jobs of a prompt; what cannot be cancelled has ended, or never came to be."""
        async with self._users.client(space.user) as client:
            await asyncio.gather(*(client.cancel(job) for job in prompt.jobs), return_exceptions=True)

    def _finder(self, space: Space) -> Callable[[str], Picture]:
        """Finds a picture that a graph names, from another thread than the loop's."""
        loop = asyncio.get_running_loop()
        found = 0

        def find(text: str) -> Picture:
            nonlocal found
            data = looked_up(text)
            found += len(data)
            if found > _PICTURES_BYTES:
                raise InvalidRequest(
                    f"The pictures that it names have more than {_PICTURES_BYTES} bytes.", "Take fewer at a time."
                )
            return data

        def looked_up(text: str) -> bytes:
            try:
                name = annotated(text)
            except ComfyError as error:
                raise InvalidRequest(str(error), "Upload the picture, and use the name that is answered.") from None
            if (job := space.job_of(name)) is not None:
                return asyncio.run_coroutine_threadsafe(self.result(space, job), loop).result(_FETCH_S)
            data = self._uploads.read(space.user, name)
            if data is None:
                raise InvalidRequest(
                    f"There is no picture {text[:80]!r}.", "Upload it first, and use the name that is answered."
                )
            return data

        return find

    def _maker(self, space: Space) -> MakePicture:
        """Makes what a node gives on of a picture, from another thread than the loop's."""
        loop = asyncio.get_running_loop()

        def make(data: bytes, what: PictureFile | MaskFile) -> bytes:
            work = "mask" if isinstance(what, MaskFile) else "picture"
            doing = self._workshop.do(space.user, work, data, **vars(what))
            return asyncio.run_coroutine_threadsafe(doing, loop).result()

        return make


class _Telling:
    """What listeners hear of one prompt, and what its history keeps of that."""

    def __init__(self, space: Space, prompt: Prompt) -> None:
        self._space = space
        self._prompt = prompt
        self._executing = ""

    def whole(self, event: str, *, everyone: bool = False, **data: Any) -> None:
        """Tell of the prompt as a whole."""
        facts = {**data, "prompt_id": self._prompt.id, "timestamp": now_ms()}
        self._prompt.messages.append((event, facts))
        for socket in self._space.listeners(self._prompt, everyone=everyone):
            socket.tell(event, facts)

    def executing(self, node: str) -> None:
        """Tell which node is at work, where that is another one than before."""
        if node != self._executing:
            self._executing = node
            self._tell("executing", node=node, display_node=node)

    def progress(self, node: str, progress: Progress, number: int, count: int) -> None:
        """Tell how far a node is; steps of several results count on."""
        prompt = self._prompt
        if progress.kind == "started" and prompt.state == "pending":
            prompt.state, prompt.started_at = "running", now_ms()
        if progress.kind in ("started", "phase", "step", "preview"):
            self.executing(node)
        if progress.kind == "step" and progress.total:
            value, most = number * progress.total + progress.done, count * progress.total
            self._tell("progress", node=node, value=value, max=most)
            self._tell("progress_state", nodes={node: self._state(node, value, most)})
        if progress.preview:
            plain = preview_frame(progress.preview)
            about = preview_frame_with_metadata(progress.preview, node, prompt.id)
            for socket in self._space.listeners(prompt):
                if prompt.previews_for(knowing=socket.with_metadata):
                    socket.show(about if socket.with_metadata else plain)

    def shown(self, data: bytes) -> None:
        """Send a result itself."""
        for socket in self._space.listeners(self._prompt):
            socket.show(preview_frame(data, PNG), needed=True)

    def executed(self, node: str) -> None:
        """Tell that a node has saved its pictures."""
        self.executing(node)
        self._tell("executed", node=node, display_node=node, output=self._prompt.outputs[node])

    def succeeded(self) -> None:
        """The prompt is done."""
        self._end("success")
        self.whole("execution_success")

    def interrupted(self) -> None:
        """The prompt was stopped."""
        node = self._executing
        self._end("interrupted")
        facts = {"node_id": node, "node_type": self._prompt.class_of(node), "executed": [*self._prompt.outputs]}
        self.whole("execution_interrupted", everyone=True, **facts)

    def failed(self, error: QiedError) -> None:
        """The prompt cannot be done."""
        prompt = self._prompt
        node = str(error.details.get("node") or self._executing or prompt.targets[0])
        prompt.failure = {
            "node_id": node,
            "node_type": prompt.class_of(node),
            "executed": [*prompt.outputs],
            "exception_message": str(error),
            "exception_type": error.code,
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
        }
        self._end("error")
        self.whole("execution_error", **prompt.failure)

    def _end(self, state: Any) -> None:
        self._prompt.state, self._prompt.ended_at = state, now_ms()

    def _state(self, node: str, value: int, most: int) -> dict[str, Any]:
        names = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
        state = "finished" if value >= most else "running"
        return {"value": value, "max": most, "state": state, "prompt_id": self._prompt.id, **names}

    def _tell(self, event: str, **data: Any) -> None:
        for socket in self._space.listeners(self._prompt):
            socket.tell(event, {**data, "prompt_id": self._prompt.id})


def _examined(
    graph: Mapping[str, Any], pictures: Pictures, served: Served, only: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    workflow = read_workflow(graph)
    found = examine(workflow, pictures, served, only=only)
    if not found.requests:
        raise refused_graph(workflow, found.problems)
    return tuple(each.node_id for each in found.requests), node_errors(workflow, found.problems)


def _as_it_is(data: bytes, *_: object) -> bytes:
    """In place of what is made of a picture, where only its size counts."""
    return data


async def _served(client: AsyncClient) -> Served:
    return Served.of(await client.describe(), await client.loras())


async def _together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first error, or a cancellation, ends the others. A task group, which Python 3.10 lacks."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _drawing_node(workflow: Workflow, node: str) -> str:
    """The nearest node before one that draws; itself where there is none."""
    seen, waiting = {node}, [node]
    while waiting:
        here = workflow.nodes.get(waiting.pop(0))
        if here is None:
            continue
        if here.class_type in _DRAWING or here.class_type.startswith("Qied"):
            return here.id
        for _, link in here.links():
            if link.node not in seen:
                seen.add(link.node)
                waiting.append(link.node)
    return node

"""What a user has here: prompts that wait, run and have ended, results by their names, and who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.names import PictureName, saved_as
from qied_client.web.comfyui.prompt import ENDED, Prompt, now_ms
from qied_client.web.comfyui.sockets import Socket, Unread

_AT_ONCE: Final = 8
"""Prompts of a user that the daemon has at a time: enough for it to run them side by side."""
_VIEWED_AT_ONCE: Final = 4
_MOST_NUMBERED: Final = 1000
"""Beginnings of file names whose last number is known; one that was used longer ago begins again."""
_SUFFIXES: Final = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}


@dataclass(frozen=True)
class SpaceLimits:
    """Most prompts that wait and that are remembered, bytes of those graphs, milliseconds, and listeners of a user."""

    waiting: int = 256
    remembered: int = 500
    graph_bytes: int = 16 * 1024 * 1024
    age_ms: int = 24 * 3600 * 1000
    sockets: int = 32


class Space:
    """One user's view, which no other user sees. ``run`` carries out a prompt; it belongs to one event loop."""

    def __init__(
        self, user: str, run: Callable[[Space, Prompt], Coroutine[Any, Any, None]], limits: SpaceLimits
    ) -> None:
        self.user = user
        self._run = run
        self._limits = limits
        self._waiting: list[Prompt] = []
        self._running: dict[Prompt, asyncio.Task[None]] = {}
        self._ended: dict[str, Prompt] = {}
        self._results: dict[PictureName, str] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._sockets: dict[str, Socket] = {}
        self.unread = Unread()
        """What waits for all of its listeners."""
        self._count = 0
        self.reading = asyncio.Lock()
        """Held while a graph of this user is read: that takes memory and time, so it is one at a time."""
        self.viewing = asyncio.Semaphore(_VIEWED_AT_ONCE)
        """Held while a picture of this user is fetched and made ready to be sent."""
        self.preparing = asyncio.Lock()
        """Held while the pictures of one of its edits are here, on their way to the daemon."""

    # Prompts

    def next_number(self, asked: object, *, front: bool) -> float:
        """The place of a new prompt: lower ones go first."""
        if isinstance(asked, (int, float)) and not isinstance(asked, bool) and abs(asked) < 2**53:
            return asked
        number = self._count
        self._count += 1
        return -number if front else number

    def queue(self, prompt: Prompt) -> None:
        """Take a prompt in; raises ComfyError where too many wait, or its id is taken."""
        if self.prompt(prompt.id) is not None:
            raise ComfyError("prompt_id_taken", f"There is a prompt {prompt.id} already.", "Choose another id.")
        waiting = sum(each.size for each in self._waiting)
        if len(self._waiting) >= self._limits.waiting or waiting + prompt.size > self._limits.graph_bytes:
            raise ComfyError(
                "queue_full", f"{len(self._waiting)} prompts wait.", "Send more when some are done.", status=429
            )
        self._waiting.append(prompt)
        self._waiting.sort(key=lambda each: each.number)
        self._go_on()
        self.tell_queue()

    def prompt(self, prompt_id: str) -> Prompt | None:
        """A prompt of this user, wherever it stands."""
        return next((each for each in self.prompts() if each.id == prompt_id), None)

    def prompts(self) -> Iterable[Prompt]:
        """All prompts: those that run, that wait, that have ended."""
        return [*self._running, *self._waiting, *self.history()]

    @property
    def running(self) -> list[Prompt]:
        """Prompts of which the daemon draws something."""
        return [each for each in self._running if each.state == "running"]

    @property
    def pending(self) -> list[Prompt]:
        """Prompts of which it draws nothing yet."""
        return [*(each for each in self._running if each.state == "pending"), *self._waiting]

    def history(self) -> list[Prompt]:
        """Prompts that have ended and are remembered, the oldest first."""
        oldest = now_ms() - self._limits.age_ms
        self.forget([each.id for each in self._ended.values() if (each.ended_at or 0) < oldest])
        return [*self._ended.values()]

    def forget(self, ids: Iterable[str]) -> None:
        """Drop prompts that have ended, with the names of their results."""
        for prompt_id in ids:
            if (gone := self._ended.pop(prompt_id, None)) is not None:
                for name in self._names_in(gone):
                    self._results.pop(name, None)

    def stop(self, prompts: Iterable[Prompt]) -> None:
        """Stop prompts that have not ended; those that only wait vanish."""
        for prompt in [*prompts]:
            if prompt in self._waiting:
                self._waiting.remove(prompt)
            elif (task := self._running.get(prompt)) is not None:
                prompt.stopping = True
                task.cancel()
        self.tell_queue()

    # Results

    def save(self, prefix: str, folder: str, media_type: str, job: str) -> PictureName:
        """Name a result as ComfyUI would name its file."""
        subfolder, stem = saved_as(prefix, folder)
        number = self._numbers.pop((subfolder, stem), 0)
        name = None
        while name is None or name in self._results:
            number += 1
            filename = f"{stem}_{number:05}_.{_SUFFIXES.get(media_type, 'png')}"
            name = PictureName(folder, subfolder, filename)
        self._numbers[subfolder, stem] = number
        if len(self._numbers) > _MOST_NUMBERED:
            del self._numbers[next(iter(self._numbers))]
        self._results[name] = job
        return name

    def job_of(self, name: PictureName) -> str | None:
        """The job whose result has this name."""
        return self._results.get(name)

    # Listeners

    def listen(self, socket: Socket) -> None:
        """Let a client hear; one of the same name is replaced. Raises ComfyError where too many listen."""
        if (old := self._sockets.pop(socket.sid, None)) is not None:
            old.close()
        if len(self._sockets) >= self._limits.sockets:
            raise ComfyError("too_many_sockets", f"{len(self._sockets)} clients listen.", "Close one.", status=429)
        self._sockets[socket.sid] = socket
        socket.tell("status", {"status": self.queue_info, "sid": socket.sid})
        for prompt in self.running:
            if prompt.client_id == socket.sid and prompt.messages:
                socket.tell(*prompt.messages[0])

    def leave(self, socket: Socket) -> None:
        """A client has left."""
        if self._sockets.get(socket.sid) is socket:
            del self._sockets[socket.sid]

    @property
    def queue_info(self) -> dict[str, Any]:
        """How many prompts are not done yet."""
        return {"exec_info": {"queue_remaining": len(self._running) + len(self._waiting)}}

    def tell_queue(self) -> None:
        """Tell everybody how many prompts are left."""
        for socket in self._sockets.values():
            socket.tell("status", {"status": self.queue_info})

    def listeners(self, prompt: Prompt, *, everyone: bool = False) -> list[Socket]:
        """Who is told of a prompt: the client that sent it; or ``everyone`` where it did not say who it is."""
        if prompt.client_id is None:
            return [*self._sockets.values()] if everyone else []
        found = self._sockets.get(prompt.client_id)
        return [] if found is None else [found]

    async def close(self) -> None:
        """End everything here; the daemon's jobs go on."""
        for socket in self._sockets.values():
            socket.close()
        tasks = [*self._running.values()]
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            prompt = self._waiting.pop(0)
            task = asyncio.create_task(self._run(self, prompt), name=f"prompt {prompt.id}")
            self._running[prompt] = task
            task.add_done_callback(lambda _, prompt=prompt: self._done(prompt))  # type: ignore[misc]

    def _done(self, prompt: Prompt) -> None:
        del self._running[prompt]
        # One that was taken out of the queue before anything was drawn of it leaves no trace.
        if prompt.state in ENDED and not (prompt.state == "interrupted" and prompt.started_at is None):
            self._ended[prompt.id] = prompt
            limits = self._limits
            while len(self._ended) > limits.remembered or (
                sum(each.size for each in self._ended.values()) > limits.graph_bytes and len(self._ended) > 1
            ):
                self.forget([next(iter(self._ended))])
        self._go_on()
        self.tell_queue()
        for socket in self.listeners(prompt):
            socket.tell("executing", {"node": None, "display_node": None, "prompt_id": prompt.id})

    @staticmethod
    def _names_in(prompt: Prompt) -> Iterable[PictureName]:
        for output in prompt.outputs.values():
            for image in output.get("images", ()):
                yield PictureName(image["type"], image["subfolder"], image["filename"])

"""The worker's link to the front: a thread with an event loop, so heartbeats continue while the engine computes."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from qied_client.connection import Connection
from qied_client.errors import DiskFull, DiskUnavailable, JobCancelled, QiedError
from qied_client.net.driver import Driver
from qied_client.net.transport import Endpoint
from qied_client.protocol.messages import Message
from qied_client.transfers import hash_of

from qied.edit import EditSpec, MaskMode, PassSpec
from qied.link import messages as w
from qied.link.launch import LaunchOrder
from qied.pictures.finishing import finished
from qied.pictures.mask import check_marks, marked_box
from qied.pictures.reduced import ReducedPicture
from qied.planning.edits.pictures import RESULT_PIXEL
from qied.planning.edits.view import View
from qied.planning.edits.views import mask_view, original_view, pass_mask_view
from qied.worker.active_edit import ActiveEdit
from qied.worker.decoded import Decoded
from qied.worker.loop import BeginEdit, DropEdit, DropScope, Order, defect, failure
from qied.worker.pictures import DecodeLimits, Gate, Pictures
from qied.worker.results import result_file
from qied.worker.rewriter import rewritten
from qied.worker.turns import Turns

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
Size = tuple[int, int]
ViewsOf = Callable[[EditSpec, str, Size], tuple[View, ...]]

_PATIENCE_S = 10.0
"""Seconds without the front after which a worker gives up."""
_DISK_WAIT_S = 2.0


class Link:
    """Reports go out by ``report`` and ``deliver`` from any thread; orders come in through the queue.

    Pictures are fetched, decoded (in processes of their own) and encoded in parallel with the engine's thread.
    """

    def __init__(
        self, order: LaunchOrder, orders: queue.SimpleQueue[Order], on_lost: Callable[[QiedError], None]
    ) -> None:
        self._log = structlog.get_logger(part="link")
        self._order = order
        self._orders = orders
        self._on_lost = on_lost
        self._preparing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._delivering: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._closing = False
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="encoding")
        self._pictures = Pictures(DecodeLimits(room_bytes=order.decoding_bytes))
        self._large_results = Gate(Turns(order.results_bytes))
        self._views_of: ViewsOf = lambda spec, blob, size: ()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="link", daemon=True).start()
        self._driver = self._run(self._open())

    def offer(self, offer: w.Offer, views_of: ViewsOf) -> None:
        """Report that the engine is loaded; from now on edits may come, of whose pictures it wants certain views."""
        self._views_of = views_of
        self.report(offer)

    def report(self, message: Message) -> None:
        """Send a report without waiting."""
        self._loop.call_soon_threadsafe(self._say, message)

    def close(self, *last: Message) -> None:
        """Send the last reports and close the link."""
        self._run(self._close(last))

    def deliver(self, edit: ActiveEdit, image: Image, model: str) -> None:
        """Encode a result, bring it to the front and report it, all without waiting here."""
        work = self._deliver(edit, image, edit.timings(), model)
        self._loop.call_soon_threadsafe(lambda: self._keep(self._delivering, edit.begin, work))

    def _keep(
        self, tasks: dict[tuple[str, str], asyncio.Task[None]], begin: w.Begin, work: Coroutine[Any, Any, None]
    ) -> None:
        """Run one side's work for an edit; says that it was cancelled, also of work that has not begun."""

        def ended(task: asyncio.Task[None]) -> None:
            tasks.pop((begin.user, begin.job), None)
            if task.cancelled():
                self._say(failure(begin, JobCancelled("The job was cancelled.")))

        task = tasks[begin.user, begin.job] = self._loop.create_task(work)
        task.add_done_callback(ended)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> Driver:
        order = self._order
        endpoint = Endpoint(order.endpoint, order.server_key, order.public_key, order.secret_key)
        connection = Connection(lambda n: w.Attach(n, order.worker), w.Attached, w.FROM_FRONT)
        driver = Driver(connection, lambda: endpoint, self._pushed, self._failed, _PATIENCE_S)
        await driver.start()
        return driver

    def _failed(self, reason: QiedError) -> None:
        """The link is lost; one that we close ourselves is not."""
        if not self._closing:
            self._on_lost(reason)

    async def _close(self, last: tuple[Message, ...]) -> None:
        self._closing = True
        for message in last:
            self._driver.say(message)
        await self._driver.close()

    def _pushed(self, message: Message) -> None:
        match message:
            case w.Begin():
                self._keep(self._preparing, message, self._prepare(message))
            case w.StopEdit(user, job):
                self._stop(user, job)
            case w.ForgetScope(scope):
                self._orders.put(DropScope(scope))
            case _:
                pass

    def _say(self, message: Message) -> None:
        """Send a report; with the end of an edit, others may have the room of its result."""
        self._driver.say(message)
        if isinstance(message, w.EditFailed | w.EditFinished):
            self._large_results.leave((message.user, message.job))

    def _stop(self, user: str, job: str) -> None:
        task = self._preparing.get((user, job)) or self._delivering.get((user, job))
        if task is None or task.done():
            self._orders.put(DropEdit(user, job))
        else:
            task.cancel()

    async def _prepare(self, begin: w.Begin) -> None:
        """Fetch and decode the pictures of an edit, then hand it to the step loop."""
        try:
            await self._room_for_result(begin)
            begin, asked_for, warned = await self._rewritten(begin)
            begin, decoded = await self._decoded(begin)
        except QiedError as error:
            self._say(failure(begin, error))
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("preparing pictures failed because of a bug", job=begin.job)
            self._say(failure(begin, defect(error)))
        else:
            self._driver.say(w.Prepared(begin.user, begin.job))
            self._orders.put(BeginEdit(begin, decoded.pictures, decoded.carried(begin.spec, warned, asked_for)))

    async def _room_for_result(self, begin: w.Begin) -> None:
        """Wait until there is host memory for a result that is enlarged, or drawn on a canvas: until the edit's end."""
        spec = begin.spec
        if spec.upscale or spec.canvas is not None:
            size = min(spec.size[0] * spec.size[1] * RESULT_PIXEL, self._order.results_bytes)
            # Each edit has turns of its own: a user's go together as far as there is room.
            await self._large_results.enter((begin.user, begin.job), f"{begin.user}/{begin.job}", size)

    async def _rewritten(self, begin: w.Begin) -> tuple[w.Begin, str, tuple[str, ...]]:
        """The edit with the prompt that it uses, the user's own where that is another, and warnings."""
        spec = begin.spec
        if not (spec.rewrite and self._order.rewriter):
            return begin, "", ()
        prompt, warnings = await rewritten(spec.prompt, self._order.rewriter, begin.job)
        asked_for = spec.prompt if prompt != spec.prompt else ""
        return replace(begin, spec=replace(spec, prompt=prompt)), asked_for, warnings

    async def _download(self, begin: w.Begin, blob: str) -> bytes:
        return await self._patiently(begin, lambda: self._driver.download(blob))

    async def _decoded(self, begin: w.Begin) -> tuple[w.Begin, Decoded]:
        """An edit's pictures, one after the other, as what the engine wants of each; and its order with regions found.

        Raises InvalidRequest for a mask that marks nothing.
        """
        spec, decoded = begin.spec, Decoded()
        if spec.mask is not None:
            view = mask_view(spec)
            mask = await self._mask(begin, spec.mask, spec.mask_mode, view)
            decoded.add(spec.mask, mask)
            decoded.mask = mask.view(view)
            await self._in_pool(check_marks, decoded.mask, spec.mask_mode, mask.guess)
        # Where a mask marks anything decides what of the other pictures is needed.
        passes = [await self._located(begin, each, decoded) for each in spec.passes]
        spec = replace(spec, passes=tuple(passes))
        for blob in dict.fromkeys(spec.inputs):
            views = partial(self._views_of, spec, blob)
            compared = partial(original_view, spec) if spec.images and blob == spec.images[spec.aligned] else _nothing
            fetch = partial(self._download, begin, blob)
            picture = await self._pictures.picture(_whose(begin), fetch, partial(_all_views, views, compared))
            decoded.add(blob, picture)
            if (original := compared(picture.size)) is not None:
                decoded.original = await self._in_pool(picture.view(original).convert, "L")
        return replace(begin, spec=spec), decoded

    async def _located(self, begin: w.Begin, each: PassSpec, decoded: Decoded) -> PassSpec:
        """A pass whose region is at most what its mask marks; raises InvalidRequest where that is nothing."""
        if each.mask is None:
            return each
        view = pass_mask_view(begin.spec)
        mask = await self._mask(begin, each.mask, each.mask_mode, view)
        decoded.add(each.mask, mask)
        return each.located(await self._in_pool(marked_box, mask.view(view), each.box, each.mask_mode, mask.guess))

    async def _mask(self, begin: w.Begin, blob: str, mode: MaskMode, view: View) -> ReducedPicture:
        return await self._pictures.picture(
            _whose(begin), partial(self._download, begin, blob), lambda size: (view,), mask=mode
        )

    async def _in_pool(self, work: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._pool, partial(work, *arguments))

    async def _patiently(self, begin: w.Begin, transfer: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat a transfer while the front's disk is full or cannot be used; the job was accepted, so it waits."""
        while True:
            try:
                return await transfer()
            except (DiskFull, DiskUnavailable) as error:
                self._log.error("a job waits for the front's disk", user=begin.user, job=begin.job, reason=str(error))
                self._driver.say(w.Stepped(begin.user, begin.job, "disk", 0, 0, 0, 0))
                await asyncio.sleep(_DISK_WAIT_S)

    async def _deliver(self, edit: ActiveEdit, image: Image, timings: dict[str, float], model: str) -> None:
        started = perf_counter()
        begin, carried, marking = edit.begin, edit.carried, self._order.marking
        try:
            image, drift = await self._in_pool(finished, image, begin.spec, carried.original)
            timings["align_ms"] = round((perf_counter() - started) * 1000, 3)
            started = perf_counter()
            signing = dict.fromkeys(begin.spec.inputs) if marking.signs else ()
            inputs = [await self._download(begin, blob) for blob in signing]
            result = await self._in_pool(result_file, begin, image, model, carried, marking, inputs, drift)
            data, warnings = result.data, result.warnings
            blob = hash_of(data)
            timings["encode_ms"] = round((perf_counter() - started) * 1000, 3)
            await self._patiently(begin, lambda: self._driver.upload(blob, memoryview(data)))
        except QiedError as error:
            self._say(failure(begin, error))
            return
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("delivering a result failed because of a bug", job=begin.job)
            self._say(failure(begin, defect(error)))
            return
        kind, small = result.media_type, result.thumbnail
        self._say(w.EditFinished(begin.user, begin.job, blob, len(data), kind, timings, warnings, drift, small))


def _all_views(
    views: Callable[[Size], tuple[View, ...]], compared: Callable[[Size], View | None], size: Size
) -> tuple[View, ...]:
    more = compared(size)
    return tuple(dict.fromkeys((*views(size), *((more,) if more is not None else ()))))


def _nothing(size: Size) -> None:
    """What is needed of a picture that no result is compared with."""


def _whose(begin: w.Begin) -> str:
    """Whose picture it is: those of a user's preemptible edits do not keep the others' waiting."""
    return f"{begin.user}/preemptible" if begin.preemptible else begin.user

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

from qied.edit import EditSpec
from qied.link import messages as w
from qied.link.launch import LaunchOrder
from qied.pictures.mask import check_marks, told
from qied.pictures.reduced import ReducedPicture
from qied.planning.pictures import mask_view
from qied.planning.view import View
from qied.worker.carried import TRANSPARENT, Carried, kept_opacity
from qied.worker.loop import BeginEdit, DropEdit, DropScope, Order, defect, failure
from qied.worker.pictures import DecodeLimits, Pictures
from qied.worker.results import result_file
from qied.worker.rewriter import rewritten

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
ViewsOf = Callable[[EditSpec, str, tuple[int, int]], tuple[View, ...]]

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
        self._loop.call_soon_threadsafe(self._driver.say, message)

    def close(self, *last: Message) -> None:
        """Send the last reports and close the link."""
        self._run(self._close(last))

    def deliver(self, begin: w.Begin, image: Image, timings: dict[str, float], model: str, carried: Carried) -> None:
        """Encode a result, bring it to the front and report it, all without waiting here."""
        work = self._deliver(begin, image, timings, model, carried)
        self._loop.call_soon_threadsafe(lambda: self._keep(self._delivering, begin, work))

    def _keep(
        self, tasks: dict[tuple[str, str], asyncio.Task[None]], begin: w.Begin, work: Coroutine[Any, Any, None]
    ) -> None:
        """Run one side's work for an edit; says that it was cancelled, also of work that has not begun."""

        def ended(task: asyncio.Task[None]) -> None:
            tasks.pop((begin.user, begin.job), None)
            if task.cancelled():
                self._driver.say(failure(begin, JobCancelled("The job was cancelled.")))

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

    def _stop(self, user: str, job: str) -> None:
        task = self._preparing.get((user, job)) or self._delivering.get((user, job))
        if task is None or task.done():
            self._orders.put(DropEdit(user, job))
        else:
            task.cancel()

    async def _prepare(self, begin: w.Begin) -> None:
        """Fetch and decode the pictures of an edit, then hand it to the step loop."""
        try:
            begin, asked_for, warned = await self._rewritten(begin)
            pictures, carried = await self._decoded(begin)
            carried = replace(carried, warnings=(*warned, *carried.warnings), original_prompt=asked_for)
        except QiedError as error:
            self._driver.say(failure(begin, error))
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("preparing pictures failed because of a bug", job=begin.job)
            self._driver.say(failure(begin, defect(error)))
        else:
            self._driver.say(w.Prepared(begin.user, begin.job))
            self._orders.put(BeginEdit(begin, pictures, carried))

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

    async def _decoded(self, begin: w.Begin) -> tuple[dict[str, ReducedPicture], Carried]:
        """An edit's pictures, one after the other, as what the engine wants of each; and what goes around it.

        Raises InvalidRequest for a mask that marks nothing.
        """
        spec = begin.spec
        pictures: dict[str, ReducedPicture] = {}
        warnings: tuple[str, ...] = ()
        seen: Image | None = None
        for blob in dict.fromkeys(spec.images):
            pictures[blob] = await self._pictures.picture(
                begin.user, partial(self._download, begin, blob), partial(self._views_of, spec, blob)
            )
        if spec.mask is not None:
            mask = await self._pictures.picture(
                begin.user,
                partial(self._download, begin, spec.mask),
                lambda size: (mask_view(spec, size),),
                mask=spec.mask_mode,
            )
            # One file may be both.
            both = pictures.get(spec.mask)
            pictures[spec.mask] = mask if both is None else both.with_views(mask.views)
            (seen,) = mask.views.values()
            await self._loop.run_in_executor(self._pool, check_marks, seen, spec.mask_mode, mask.guess)
            warnings = told(mask.guess)
        opacity = kept_opacity(pictures[spec.images[0]], seen) if spec.keeps_opacity else None
        if opacity is not None and spec.background == "auto" and not spec.only_upscales:
            warnings = (*warnings, TRANSPARENT)
        inputs = tuple((blob, pictures[blob].marks) for blob in dict.fromkeys(spec.images))
        return pictures, Carried(warnings, inputs, opacity)

    async def _patiently(self, begin: w.Begin, transfer: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat a transfer while the front's disk is full or cannot be used; the job was accepted, so it waits."""
        while True:
            try:
                return await transfer()
            except (DiskFull, DiskUnavailable) as error:
                self._log.error("a job waits for the front's disk", user=begin.user, job=begin.job, reason=str(error))
                self._driver.say(w.Stepped(begin.user, begin.job, "disk", 0, 0, 0, 0))
                await asyncio.sleep(_DISK_WAIT_S)

    async def _deliver(
        self, begin: w.Begin, image: Image, timings: dict[str, float], model: str, carried: Carried
    ) -> None:
        started = perf_counter()
        marking = self._order.marking
        try:
            signing = dict.fromkeys(begin.spec.images) if marking.signs else ()
            inputs = [await self._download(begin, blob) for blob in signing]
            result = await self._loop.run_in_executor(
                self._pool, result_file, begin, image, model, carried, marking, inputs
            )
            data, warnings = result.data, result.warnings
            blob = hash_of(data)
            timings["encode_ms"] = round((perf_counter() - started) * 1000, 3)
            await self._patiently(begin, lambda: self._driver.upload(blob, memoryview(data)))
        except QiedError as error:
            self._driver.say(failure(begin, error))
            return
        except Exception as error:  # noqa: BLE001 (a defect in one edit must not end its neighbours)
            self._log.exception("delivering a result failed because of a bug", job=begin.job)
            self._driver.say(failure(begin, defect(error)))
            return
        self._driver.say(
            w.EditFinished(
                begin.user, begin.job, blob, len(data), result.media_type, timings, warnings, result.thumbnail
            )
        )

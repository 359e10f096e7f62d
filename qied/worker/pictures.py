"""The pictures of edits: fetched, decoded in processes of their own, and reduced to what the edit needs.

A picture may be made to take minutes or all memory, or to crash its decoder. So it is decoded in a child process with
limits of processor time and memory, which is killed when they are exceeded or the job is cancelled. Each user has at
most one at a time, so that no user waits for the pictures of another while a process is free.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from PIL import Image
from qied_client.errors import PictureTooLarge
from qied_client.picture_file.marks import read_marks
from qied_client.picture_header import PictureHeader, PictureLimits, read_header
from qied_client.pixels.opacity import Guess

from qied.edit import MaskMode
from qied.pictures.decoder_messages import DecodeOrder, too_costly
from qied.pictures.decoder_process import Decoder, DecoderKilled
from qied.pictures.reduced import NO_MARKS, ReducedPicture
from qied.planning.edits.pictures import DECODERS, DECODING_ROOM, MIB, decoding_bytes
from qied.planning.edits.view import View
from qied.worker.turns import Turns


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding one picture may take, and ``room_bytes`` for all that are decoded at the same time.

    The largest pictures take some seconds of a processor, and one with the most scans several times that. ``wall_s`` is
    for processes that do not compute, and longer, since other programs may have the processors.
    """

    cpu_s: float = 30.0
    wall_s: float = 120.0
    max_pixels: int = PictureLimits.max_pixels
    room_bytes: int = DECODING_ROOM


Fetch = Callable[[], Awaitable[bytes]]
ViewsOf = Callable[[tuple[int, int]], tuple[View, ...]]
"""From the size of an upright picture, (width, height), to what is needed of it."""


class Pictures:
    """Belongs to one event loop. Processes are started when they are first needed, and kept."""

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self._limits = limits or DecodeLimits()
        self._decoders = Gate(Turns(DECODERS))
        self._room = Gate(Turns(self._limits.room_bytes))
        self._idle = [Decoder() for _ in range(DECODERS)]
        self._pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoding")

    async def picture(
        self, user: str, fetch: Fetch, views_of: ViewsOf, *, mask: MaskMode | None = None
    ) -> ReducedPicture:
        """Fetch and decode a picture, or a mask that marks in this way, as soon as it is its user's turn.

        Raises what ``fetch`` raises, and PictureError and its kinds. Cancelling ends the decoding at once.
        """
        loop = asyncio.get_running_loop()
        async with self._decoders.turn(user, 1):
            data = await fetch()
            header = await loop.run_in_executor(self._pool, self._header, data)
            marks = await loop.run_in_executor(self._pool, read_marks, data) if mask is None else NO_MARKS
            size = header.displayed_size
            memory = decoding_bytes(size[0] * size[1], len(data))
            limits = self._limits
            _check(size, memory, limits.room_bytes)
            views = views_of(size)
            async with self._room.turn(user, memory):
                order = DecodeOrder(views, mask, limits.max_pixels, memory, limits.cpu_s)
                images, guess = await self._decoded(data, order)
        return ReducedPicture(size, dict(zip(views, images, strict=True)), guess, marks)

    def close(self) -> None:
        """End all processes."""
        for decoder in self._idle:
            decoder.close()
        self._pool.shutdown(wait=False)

    def _header(self, data: bytes) -> PictureHeader:
        return read_header(io.BytesIO(data), PictureLimits(max_pixels=self._limits.max_pixels))

    async def _decoded(self, data: bytes, order: DecodeOrder) -> tuple[list[Image.Image], Guess]:
        decoder = self._idle.pop()
        decoder.wanted()
        work = asyncio.get_running_loop().run_in_executor(self._pool, decoder.decode, data, order)
        try:
            await asyncio.wait({work}, timeout=self._limits.wall_s)
        finally:
            if not work.done():
                decoder.kill()
            while not work.done():
                # Killed, it takes a moment; until then its turn is not over, however often the job is cancelled.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
            work.exception()  # looked at here, since after a cancel it is not awaited
            self._idle.append(decoder)
        try:
            return await work
        except DecoderKilled:
            raise too_costly(f"{self._limits.wall_s:g} s") from None


def _check(size: tuple[int, int], memory_bytes: int, room_bytes: int) -> None:
    if memory_bytes > room_bytes:
        raise PictureTooLarge(
            f"The picture is {size[0]} x {size[1]} pixels; decoding it may take {memory_bytes // MIB} MiB of memory, "
            f"and this machine has {room_bytes // MIB} MiB.",
            "Scale it down first.",
            bytes=memory_bytes,
            max_bytes=room_bytes,
        )


class Gate:
    """Turns as something to wait for."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: dict[object, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def turn(self, user: str, size: int) -> AsyncIterator[None]:
        """Hold ``size`` of the capacity as soon as there is room."""
        name = object()
        try:
            await self.enter(name, user, size)
            yield
        finally:
            self.leave(name)

    async def enter(self, name: object, user: str, size: int) -> None:
        """Wait for room and hold it under a name, until ``leave``, which is for the cancelled as well."""
        self._waiting[name] = admitted = asyncio.get_running_loop().create_future()
        self._turns.ask(name, user, size)
        self._admit()
        await admitted

    def leave(self, name: object) -> None:
        """Give back what is held under a name, if anything is."""
        self._waiting.pop(name, None)
        self._turns.leave(name)
        self._admit()

    def _admit(self) -> None:
        for name in self._turns.admit():
            admitted = self._waiting.pop(name)
            if not admitted.done():
                admitted.set_result(None)

"""Pictures in real decoding processes: the same pixels as without, and hostile ones that harm nobody else."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageCms
from qied_client.errors import PictureError, PictureTooCostly, PictureTooLarge, PictureUnreadable
from qied_client.picture_header import PictureLimits

from qied.edit import MaskMode
from qied.pictures.decode import decode, decode_mask
from qied.pictures.decoder_messages import DecodeOrder
from qied.pictures.decoder_process import Decoder
from qied.pictures.reduced import ReducedPicture, resampling
from qied.planning.edits.pictures import decoding_bytes
from qied.planning.edits.view import View
from qied.worker.pictures import DecodeLimits, Pictures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

VIEWS = (View(48, 32), View(7, 90), View(60, 40, "box"))
DecodersOf = Callable[[int], list[int]]


@asynccontextmanager
async def decoding(**limits: float) -> AsyncIterator[Pictures]:
    pictures = Pictures(DecodeLimits(**limits))  # type: ignore[arg-type]
    try:
        yield pictures
    finally:
        pictures.close()


async def decoded(
    pictures: Pictures, data: bytes, user: str = "anna", *, mask: MaskMode | None = None
) -> ReducedPicture:
    async def fetch() -> bytes:
        return data

    return await pictures.picture(user, fetch, lambda _: VIEWS, mask=mask)


async def begun(pictures: Pictures, data: bytes, user: str = "anna") -> asyncio.Task[ReducedPicture]:
    """A picture that a process has been given."""
    given = asyncio.Event()

    async def fetch() -> bytes:
        return data

    def views_of(_: object) -> tuple[View, ...]:
        given.set()
        return VIEWS

    task = asyncio.create_task(pictures.picture(user, fetch, views_of))
    await given.wait()
    return task


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (what other processes do sets no event)
        await asyncio.sleep(0.01)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def noise(mode: str) -> Image.Image:
    levels = np.random.default_rng(3).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


def turned() -> bytes:
    block = Image.Exif()
    block[0x0112] = 6
    return block.tobytes()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FILES = {
    "rgb": saved(noise("RGB"), "PNG"),
    "opacity": saved(noise("RGBA"), "PNG", icc_profile=PROFILE),
    "gray and opacity": saved(noise("LA"), "PNG"),
    "16 bits": saved(Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27), "PNG"),
    "cmyk": saved(noise("CMYK"), "JPEG"),
    "turned": saved(noise("RGB"), "JPEG", progressive=True, exif=turned(), icc_profile=PROFILE),
    "webp": saved(noise("RGBA"), "WEBP", lossless=True),
}


async def test_views_have_the_bytes_of_the_whole_picture_resized() -> None:
    async with decoding() as pictures:
        for data in FILES.values():
            for mask in (None, *get_args(MaskMode)):
                limits = PictureLimits()
                whole = decode(data, limits) if mask is None else decode_mask(data, limits, mask)[0]
                found = await decoded(pictures, data, mask=mask)
                assert found.size == whole.size
                for view in VIEWS:
                    size, way = (view.width, view.height), resampling(view)
                    ours, theirs = found.resize(size, way), whole.resize(size, way)
                    assert (ours.mode, ours.size, ours.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(name: bytes, body: bytes) -> bytes:
    head = len(b"\x89PNG\r\n\x1a\n") + 25
    return FILES["rgb"][:head] + chunk(name, body) + FILES["rgb"][head:]


BOMB = zlib.compress(bytes(200_000_000))
HOSTILE = {
    "truncated": FILES["opacity"][:-300],
    "truncated jpeg": FILES["turned"][:-900],
    "huge size": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">II5B", 16_000, 16_000, 8, 6, 0, 0, 0)),
    "bomb in a text": with_chunk(b"zTXt", b"a\0\0" + BOMB),
    "bomb in a profile": with_chunk(b"iCCP", b"a\0\0" + BOMB),
    "many bombs": FILES["rgb"][:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 300,
    "pixels that are not there": FILES["rgb"][:33] + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
    "pixels that are none": saved(noise("RGB"), "WEBP", lossless=True)[:30] + bytes(900),
}


async def test_files_that_were_made_to_harm_are_refused_and_the_process_goes_on(decoders_of: DecodersOf) -> None:
    async with decoding() as pictures:
        await decoded(pictures, FILES["rgb"])
        before = decoders_of(os.getpid())
        for name, data in HOSTILE.items():
            with pytest.raises(PictureError) as caught:
                await decoded(pictures, data)
            assert caught.value.remedy, name
        await decoded(pictures, FILES["rgb"])
        assert decoders_of(os.getpid()) == before


@pytest.mark.parametrize("part", [b"eXIf", b"tEXt"])
async def test_metadata_of_any_size_and_content_does_not_matter(part: bytes) -> None:
    async with decoding() as pictures:
        expected = await decoded(pictures, FILES["rgb"])
        junk = b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 50_000
        found = await decoded(pictures, with_chunk(part, junk))
        assert [view.tobytes() for view in found.views.values()] == [v.tobytes() for v in expected.views.values()]


async def test_too_much_processor_time_is_an_error_of_that_picture_alone(many_scans: Callable[..., bytes]) -> None:
    async with decoding(cpu_s=0.3) as pictures:
        with pytest.raises(PictureTooCostly, match=r"0\.3 s") as caught:
            await decoded(pictures, many_scans(7900, 100))
        assert "PNG" in caught.value.remedy
        assert (await decoded(pictures, FILES["rgb"])).size == (60, 40)


@pytest.mark.slow
async def test_a_process_that_does_nothing_at_all_is_ended_too(decoders_of: DecodersOf) -> None:
    async with decoding(wall_s=5) as pictures:
        await decoded(pictures, FILES["rgb"])
        (stopped,) = decoders_of(os.getpid())
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(PictureTooCostly):
            await decoded(pictures, FILES["rgb"])
        assert stopped not in decoders_of(os.getpid())


def test_more_memory_than_was_promised_is_not_given() -> None:
    large = saved(Image.new("RGBA", (6000, 6000)), "PNG", compress_level=1)
    decoder = Decoder()
    enough = DecodeOrder(VIEWS, None, 64_000_000, decoding_bytes(6000 * 6000, len(large)), 30.0)
    assert len(decoder.decode(large, enough)[0]) == len(VIEWS)
    pid = decoder.pid
    with pytest.raises(PictureTooCostly, match="100 MiB of memory"):
        decoder.decode(large, replace(enough, memory_bytes=100 << 20))
    assert len(decoder.decode(large, enough)[0]) == len(VIEWS)
    assert decoder.pid == pid
    decoder.close()


async def test_a_picture_that_is_too_large_for_all_the_room_is_refused_by_its_header() -> None:
    data = FILES["rgb"]
    needed = decoding_bytes(60 * 40, len(data))
    async with decoding(room_bytes=needed) as pictures:
        await decoded(pictures, data)
    async with decoding(room_bytes=needed - 1) as pictures:
        with pytest.raises(PictureTooLarge, match="60 x 40"):
            await decoded(pictures, data)


async def test_another_users_picture_does_not_wait_and_ones_own_does(decoders_of: DecodersOf) -> None:
    async with decoding() as pictures:
        await decoded(pictures, FILES["rgb"])
        (stopped,) = decoders_of(os.getpid())
        os.kill(stopped, signal.SIGSTOP)
        mallory = [await begun(pictures, FILES["rgb"], "mallory")]
        mallory += [asyncio.create_task(decoded(pictures, FILES["rgb"], "mallory")) for _ in range(8)]
        await decoded(pictures, FILES["webp"], "anna")
        await decoded(pictures, FILES["cmyk"], "bob")
        assert not any(task.done() for task in mallory)
        assert len(decoders_of(os.getpid())) == 2
        os.kill(stopped, signal.SIGCONT)
        await asyncio.gather(*mallory)


async def test_cancelling_ends_the_process_at_once_and_only_that_one(decoders_of: DecodersOf) -> None:
    async with decoding() as pictures:
        await decoded(pictures, FILES["rgb"])
        (stopped,) = decoders_of(os.getpid())
        os.kill(stopped, signal.SIGSTOP)
        first = await begun(pictures, FILES["rgb"], "mallory")
        second = asyncio.create_task(decoded(pictures, FILES["rgb"], "mallory"))
        await decoded(pictures, FILES["webp"], "anna")
        others = [pid for pid in decoders_of(os.getpid()) if pid != stopped]
        first.cancel()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert stopped not in decoders_of(os.getpid())
        assert (await second).size == (60, 40)
        assert set(others) <= set(decoders_of(os.getpid()))


async def test_a_process_killed_from_outside_is_replaced(decoders_of: DecodersOf) -> None:
    async with decoding() as pictures:
        await decoded(pictures, FILES["rgb"])
        (killed,) = decoders_of(os.getpid())
        os.kill(killed, signal.SIGSTOP)
        waiting = await begun(pictures, FILES["rgb"])
        await decoded(pictures, FILES["rgb"], "bob")
        os.kill(killed, signal.SIGKILL)
        assert (await waiting).size == (60, 40)


async def test_a_picture_that_ends_each_process_is_an_error(decoders_of: DecodersOf) -> None:
    async with decoding() as pictures:
        await decoded(pictures, FILES["rgb"])
        (first,) = decoders_of(os.getpid())
        os.kill(first, signal.SIGSTOP)
        waiting = await begun(pictures, FILES["rgb"])
        await decoded(pictures, FILES["rgb"], "bob")
        before = set(decoders_of(os.getpid()))
        # The next one is stopped as soon as it is there: it has imports to do.
        os.kill(first, signal.SIGKILL)
        await until(lambda: set(decoders_of(os.getpid())) - before)
        (second,) = set(decoders_of(os.getpid())) - before
        os.kill(second, signal.SIGKILL)
        with pytest.raises(PictureUnreadable, match="SIGKILL"):
            await waiting
        assert (await decoded(pictures, FILES["rgb"])).size == (60, 40)


PARENT = """
import asyncio, sys
from qied.worker.pictures import Pictures
from qied.planning.edits.view import View
async def fetch(): return sys.stdin.buffer.read()
asyncio.run(Pictures().picture("anna", fetch, lambda _: (View(8, 8),)))
"""


async def test_a_decoding_process_ends_with_its_parent(
    decoders_of: DecodersOf, many_scans: Callable[..., bytes]
) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 (it is killed below)
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE
    )
    assert parent.stdin is not None
    parent.stdin.write(many_scans(7900, 100))
    parent.stdin.close()
    await until(lambda: decoders_of(parent.pid))
    (child,) = decoders_of(parent.pid)
    parent.kill()
    parent.wait()
    await until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return b"decoder_child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_the_decoding_process_is_small() -> None:
    code = (
        "import sys, qied.pictures.decoder_child; sys.exit(bool({'torch', 'structlog', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

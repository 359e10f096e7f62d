"""The process that decodes untrusted pictures for a worker: one at a time, within limits that the kernel keeps.

It ends with its worker, whatever it is doing then: a thread reads its standard input, which ends with the worker.
"""

from __future__ import annotations

import io
import os
import queue
import resource
import signal
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from qied_client.errors import PictureError
from qied_client.picture_header import PictureLimits, read_header
from qied_client.pixels.opacity import Guess

from qied.pictures.decode import decode_both, decode_mask
from qied.pictures.decoder_messages import DECODED, LENGTH, REFUSED, REQUEST, DecodeOrder, error_to_json, too_costly
from qied.pictures.mask import GUESSES
from qied.pictures.plugins import load_decoder
from qied.pictures.reduced import view_of
from qied.planning.edits.view import View

_Request = tuple[DecodeOrder, bytes]


def main() -> None:
    """Decode until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # as the worker does
    warnings.simplefilter("ignore")  # what a file makes Pillow say is not for the daemon's log
    _go_first()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        order, data = requests.get()
        for piece in _answer(order, data):
            _write(answers, piece)
        del data


def _read(requests: queue.SimpleQueue[_Request]) -> None:
    source = os.fdopen(0, "rb", closefd=False)
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        order_bytes, file_bytes = REQUEST.unpack(head)
        order, data = source.read(order_bytes), source.read(file_bytes)
        if len(data) < file_bytes:
            break
        requests.put((DecodeOrder.from_json(order), data))
        del order, data
    os._exit(0)


def _answer(order: DecodeOrder, data: bytes) -> list[bytes]:
    try:
        limits = PictureLimits(max_pixels=order.max_pixels)
        load_decoder(read_header(io.BytesIO(data), limits).format)  # its libraries do not count for this picture
        _limit(order)
        try:
            pixels = _pixels(order, data, limits)
        finally:
            _lift_limits()
    except PictureError as error:
        text = error_to_json(error)
    except MemoryError:
        text = error_to_json(too_costly(f"{order.memory_bytes // 1024**2} MiB of memory"))
    else:
        return [DECODED, *pixels]
    return [REFUSED, LENGTH.pack(len(text)), text]


def _pixels(order: DecodeOrder, data: bytes, limits: PictureLimits) -> list[bytes]:
    guess: Guess = ""
    if order.mask is None:
        picture, opacity = decode_both(data, limits)
    else:
        (picture, guess), opacity = decode_mask(data, limits, order.mask), None
    return [bytes([GUESSES.index(guess)]), *(_view(view, picture, opacity) for view in order.views)]


def _view(view: View, picture: Image.Image, opacity: Image.Image | None) -> bytes:
    if view.filter == "opacity":
        if opacity is None:
            return b"\xff" * (view.width * view.height)
        picture = opacity
    return view_of(picture, view).tobytes()


def _limit(order: DecodeOrder) -> None:
    """Let the kernel end this process after its time, and refuse it more memory than was promised."""
    signal.setitimer(signal.ITIMER_PROF, order.cpu_s)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + order.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _lift_limits() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _go_first() -> None:
    """Where memory runs out all the same, let the kernel kill this process and not the worker (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _write(target: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]


if __name__ == "__main__":
    main()

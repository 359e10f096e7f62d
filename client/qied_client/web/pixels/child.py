"""The process that works on pixels for a gateway: one piece of work at a time, within limits that the kernel keeps."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from qied_client.errors import QiedError
from qied_client.web.pixels.messages import DONE, LENGTH, REFUSED, Ended, error_to_json, read, too_costly
from qied_client.web.pixels.work import WORKS

CPU_S: Final = 60.0
"""Seconds of a processor for one piece of work."""
_MEMORY_BYTES: Final = 2 * 1024**3
"""What it may take besides the program: some copies of the largest picture, four bytes a pixel."""


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends its input
    warnings.simplefilter("ignore")
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(Ended):
        while True:
            order = json.loads(read(source, *LENGTH.unpack(read(source, LENGTH.size))))
            files = [read(source, size) for size in order["sizes"]]
            try:
                with _limits():
                    done = WORKS[order["work"]](*files, **order["options"])
            except QiedError as error:
                status, done = REFUSED, error_to_json(error)
            except MemoryError:
                status, done = REFUSED, error_to_json(too_costly(f"{_MEMORY_BYTES >> 20} MiB of memory"))
            else:
                status = DONE
            answers.write(status + LENGTH.pack(len(done)))
            answers.write(done)
            answers.flush()
            del files, done


@contextmanager
def _limits() -> Iterator[None]:
    """Let the kernel end this process after its time, and refuse it more memory than it may have (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY_BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


if __name__ == "__main__":
    main()

"""One worker process: started with its keys on standard input, and judged when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qied.link.launch import LaunchOrder

_OOM_COUNTER = Path("/proc/vmstat")


@dataclass(frozen=True)
class Ending:
    """How a worker process ended. ``by_itself`` is False if it was killed from outside."""

    code: int
    by_itself: bool

    def __str__(self) -> str:
        if self.code < 0:
            with suppress(ValueError):
                return signal.Signals(-self.code).name
        return f"exit {self.code}"


class WorkerProcess:
    """A child process that ends when this one does: it reads the end of its standard input.

    ``oom_counter`` is where the kernel counts the processes that it killed for lack of memory.
    """

    def __init__(self, process: asyncio.subprocess.Process, oom_counter: Path = _OOM_COUNTER) -> None:
        self._process = process
        self._oom_counter = oom_counter
        self._oom_kills = count_oom_kills(oom_counter)
        self._hung = False

    @classmethod
    async def start(cls, order: LaunchOrder) -> WorkerProcess:
        """Start the process and hand it its order."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "qied.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=order.environment(os.environ),
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(order.to_line())
            await process.stdin.drain()
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def wait(self) -> Ending:
        """Wait for the end and judge it.

        SIGTERM, SIGINT and SIGKILL come from outside, unless the kernel killed for lack of memory meanwhile, or the
        process hung and was killed for it: then it is the work's own doing, as any other end is.
        """
        code = await self._process.wait()
        outside = code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL) and not self._hung
        if outside and code == -signal.SIGKILL:
            now = count_oom_kills(self._oom_counter)
            outside = now is None or now == self._oom_kills
        return Ending(code, by_itself=not outside)

    def kill_hung(self) -> None:
        """Kill it because it makes no progress."""
        self._hung = True
        self.kill()

    def kill(self) -> None:
        """Kill it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def close_input(self) -> None:
        """Ask it to end: it leaves when its standard input does."""
        if self._process.stdin is not None:
            self._process.stdin.close()


def count_oom_kills(counter: Path) -> int | None:
    """Processes that the kernel has killed for lack of memory by now (Linux), or None where it does not say."""
    try:
        for line in counter.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except OSError:
        pass
    return None

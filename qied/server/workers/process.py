"""One worker process: started with its keys on standard input, and judged when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qied.link.exit_codes import DEVICE_LOST, ENGINE_BROKEN, FRONT_GONE
from qied.link.launch import LaunchOrder
from qied.server.clock import slept_ms
from qied.server.workers.oom_kills import OomKills

_FAULTS = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS"}
"""Signals that a program gets for what it does itself; all others are sent by somebody."""
_CAUSES = {DEVICE_LOST: "device_lost", ENGINE_BROKEN: "engine_broken", FRONT_GONE: "front_gone"}
_SUSPENDED_MS = 1_000


@dataclass(frozen=True)
class Ending:
    """How a worker process ended. ``by_itself`` is False if that says nothing about its jobs.

    ``for_memory``: the kernel killed it, since the host's memory had run out. ``hung``: it was killed for that.
    ``started`` is False where there was never a process.
    """

    code: int
    by_itself: bool
    for_memory: bool = False
    hung: bool = False
    started: bool = True

    @property
    def cause(self) -> str:
        """One of ``metrics.figures.CAUSES``."""
        if not self.started:
            return "not_started"
        if self.code >= 0:
            return _CAUSES.get(self.code, "exit")
        if self.hung or self.for_memory:
            return "hung" if self.hung else "out_of_memory"
        return "fault" if _name(self.code) in _FAULTS else "killed"

    def __str__(self) -> str:
        return _name(self.code)


def judge(code: int, *, hung: bool = False, for_memory: bool = False, suspended_ms: int = 0) -> Ending:
    """Whose doing an end was.

    By itself: any exit, a signal for a fault, a kill for hanging (``hung``) and one by the kernel (``for_memory``).
    Not by itself: a signal that somebody sent, a front that did not answer, and a device that was lost over a suspend
    of the machine (``suspended_ms`` since the last report).
    """
    if code < 0:
        sent = _name(code) not in _FAULTS and not hung and not for_memory
        return Ending(code, by_itself=not sent, for_memory=for_memory, hung=hung)
    nobody = code == FRONT_GONE or (code == DEVICE_LOST and suspended_ms >= _SUSPENDED_MS)
    return Ending(code, by_itself=not nobody)


class WorkerProcess:
    """A child process that ends when this one does: it reads the end of its standard input."""

    def __init__(self, process: asyncio.subprocess.Process, oom_kills: OomKills) -> None:
        self._process = process
        self._oom_kills = oom_kills
        self._oom_mark = oom_kills.mark()
        self._slept_ms = slept_ms()
        self._hung = False

    @classmethod
    async def start(cls, order: LaunchOrder, oom_kills: OomKills) -> WorkerProcess:
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
        return cls(process, oom_kills)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def reported(self) -> None:
        """It has just sent a report, so its device was well until now."""
        self._slept_ms = slept_ms()

    async def wait(self) -> Ending:
        """Wait for the end and judge it."""
        code = await self._process.wait()
        for_memory = code == -signal.SIGKILL and not self._hung and self._oom_kills.explains(self._oom_mark)
        return judge(code, hung=self._hung, for_memory=for_memory, suspended_ms=slept_ms() - self._slept_ms)

    def kill_hung(self) -> None:
        """Kill it because it makes no progress, which is its own doing unless somebody has stopped it."""
        self._hung = not is_stopped(self.pid)
        self.kill()

    def kill(self) -> None:
        """Kill it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def close_input(self) -> None:
        """Ask it to end: it leaves when its standard input does."""
        if self._process.stdin is not None:
            self._process.stdin.close()


def _name(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit {code}"


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped this process, by SIGSTOP or a debugger (Linux; elsewhere False)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    except OSError:
        return False

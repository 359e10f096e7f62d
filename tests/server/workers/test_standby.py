"""Processes that are no longer wanted: they end in time, and nobody takes their end for a loss."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from qied.server.workers.oom_kills import OomKills
from qied.server.workers.process import WorkerProcess
from qied.server.workers.standby import Wanted, leave

Start = Callable[[str], Awaitable[WorkerProcess]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a process that runs a script, once it says that it is ready."""
    children: list[asyncio.subprocess.Process] = []

    async def starting(script: str) -> WorkerProcess:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", f"print(flush=True)\n{script}", **pipes)
        children.append(child)
        assert child.stdout is not None
        await child.stdout.readline()
        return WorkerProcess(child, OomKills())

    yield starting
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_a_process_that_heeds_the_end_of_its_input_leaves_by_itself(start: Start) -> None:
    process = await start("import sys; sys.stdin.read(); sys.exit(7)")
    await leave(process)
    assert (await process.wait()).code == 7


async def test_a_process_that_does_not_heed_it_is_killed(start: Start) -> None:
    process = await start("import threading; threading.Event().wait()")
    await leave(process)
    assert (await process.wait()).code == -9


async def test_only_the_process_that_was_unloaded_ends_on_request(start: Start) -> None:
    standby = Wanted()
    first, second = await start("input()"), await start("input()")
    standby.unload(first)
    assert not standby.wanted.is_set()
    standby.load()
    assert standby.wanted.is_set()
    assert standby.ended_on_request(first)
    assert not standby.ended_on_request(second)


async def test_a_process_whose_start_was_overtaken_by_unloading_was_started_in_vain(start: Start) -> None:
    standby = Wanted()
    unloads = standby.unloads
    assert not standby.started_in_vain(await start("input()"), unloads)
    standby.unload(None)
    standby.load()
    late = await start("input()")
    assert standby.started_in_vain(late, unloads)
    assert standby.ended_on_request(late)

"""Whose doing the end of a worker was: its own, its work's, or somebody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qied.link.exit_codes import DEVICE_LOST, ENGINE_BROKEN, FRONT_GONE
from qied.metrics.figures import CAUSES
from qied.server.workers.oom_kills import OomKills, count_oom_kills
from qied.server.workers.process import Ending, WorkerProcess, judge


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """A file in which a kernel counts."""
    path = tmp_path / "vmstat"
    path.write_text("nr_free_pages 12\noom_kill 3\noom_kill_group 9\n")
    return path


async def obedient_child() -> asyncio.subprocess.Process:
    script = "import signal, sys; signal.signal(2, signal.SIG_DFL); print(flush=True); sys.exit(int(input()))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


@pytest.fixture
async def child() -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the status that it is told, and is ready to be told one."""
    process = await obedient_child()
    yield process
    await end(process)


@pytest.fixture
async def another_child() -> AsyncIterator[asyncio.subprocess.Process]:
    """One more of these."""
    process = await obedient_child()
    yield process
    await end(process)


def kernel_kills(counter: Path) -> None:
    counter.write_text("nr_free_pages 12\noom_kill 4\noom_kill_group 9\n")


async def test_a_worker_that_the_kernel_killed_for_lack_of_memory_ended_by_its_own_doing(child, counter) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    kernel_kills(counter)
    child.send_signal(signal.SIGKILL)
    ending = await worker.wait()
    assert (ending.by_itself, ending.for_memory) == (True, True)


async def test_one_kill_by_the_kernel_explains_one_end(child, another_child, counter) -> None:
    kills = OomKills(counter)
    workers = [WorkerProcess(process, kills) for process in (child, another_child)]
    kernel_kills(counter)
    child.send_signal(signal.SIGKILL)
    assert (await workers[0].wait()).for_memory
    another_child.send_signal(signal.SIGKILL)
    ending = await workers[1].wait()
    assert (ending.by_itself, ending.for_memory) == (False, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
async def test_a_worker_that_somebody_killed_did_not(child, counter, number) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    child.send_signal(number)
    ending = await worker.wait()
    assert (ending.by_itself, str(ending)) == (False, number.name)


async def test_the_kernel_asks_no_process_to_end_when_it_wants_memory(child, counter) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    kernel_kills(counter)
    child.send_signal(signal.SIGTERM)
    assert not (await worker.wait()).by_itself


async def test_where_nobody_counts_a_kill_is_somebody_elses(child, tmp_path) -> None:
    worker = WorkerProcess(child, OomKills(tmp_path / "not there"))
    child.send_signal(signal.SIGKILL)
    assert not (await worker.wait()).by_itself


async def test_a_worker_that_was_killed_because_it_hung_ended_by_its_own_doing(child, counter) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    worker.kill_hung()
    assert (await worker.wait()).by_itself


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who is stopped")
async def test_a_worker_that_somebody_stopped_did_not_hang(child, counter) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    child.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    worker.kill_hung()
    assert not (await worker.wait()).by_itself


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL])
async def test_a_fault_is_its_own_doing(child, counter, number) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    child.send_signal(number)
    assert (await worker.wait()).by_itself


async def test_a_front_that_did_not_answer_is_nobodys_fault(child, counter) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    assert child.stdin is not None
    child.stdin.write(f"{FRONT_GONE}\n".encode())
    assert not (await worker.wait()).by_itself


def test_a_device_that_is_lost_over_a_suspend_was_lost_to_it() -> None:
    assert judge(DEVICE_LOST).by_itself
    assert not judge(DEVICE_LOST, suspended_ms=60_000).by_itself
    assert judge(-signal.SIGSEGV, suspended_ms=60_000).by_itself


@pytest.mark.parametrize("status", [0, 1, 139])
async def test_an_exit_is_its_own_doing(child, counter, status) -> None:
    worker = WorkerProcess(child, OomKills(counter))
    assert child.stdin is not None
    child.stdin.write(f"{status}\n".encode())
    ending = await worker.wait()
    assert (ending.by_itself, str(ending)) == (True, f"exit {status}")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts")
def test_this_system_counts() -> None:
    assert count_oom_kills(Path("/proc/vmstat")) is not None


ENDINGS = [
    (judge(0), "exit"),
    (judge(139), "exit"),
    (judge(DEVICE_LOST), "device_lost"),
    (judge(ENGINE_BROKEN), "engine_broken"),
    (judge(FRONT_GONE), "front_gone"),
    (judge(-signal.SIGSEGV), "fault"),
    (judge(-signal.SIGKILL), "killed"),
    (judge(-signal.SIGKILL, hung=True), "hung"),
    (judge(-signal.SIGKILL, for_memory=True), "out_of_memory"),
    (Ending(0, by_itself=False, started=False), "not_started"),
]


@pytest.mark.parametrize(("ending", "cause"), ENDINGS)
def test_the_cause_that_is_counted(ending: Ending, cause: str) -> None:
    assert ending.cause == cause


def test_every_cause_that_has_a_series_can_be() -> None:
    assert {cause for _, cause in ENDINGS} == set(CAUSES)

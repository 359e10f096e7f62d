"""The line of those who were refused for now: its order, its waking, its patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from qied_client import Progress
from qied_client.aio import waiting_line
from qied_client.aio.waiting_line import JobEnds, Outage, WaitingLine
from qied_client.errors import CapacityError, DaemonUnreachable, DiskFull, QueueFull, QuotaExceeded, ShuttingDown

_LIMIT_S = 30.0


class Gate:
    """Asks that are refused until there is room; remembers who asked."""

    def __init__(self) -> None:
        self.room = 0
        self.asked: list[str] = []
        self.refusal: CapacityError = QueueFull("Full.")
        self._changed = asyncio.Event()

    async def was_asked(self, times: int) -> None:
        while len(self.asked) < times:
            await self._changed.wait()

    def ask(self, name: str) -> Callable[[], Any]:
        async def ask() -> str:
            self.asked.append(name)
            self._changed.set()
            self._changed = asyncio.Event()
            await asyncio.sleep(0)
            if not self.room:
                raise self.refusal
            self.room -= 1
            return name

        return ask


class Line:
    """A line whose first waits for an hour, unless a job ends."""

    def __init__(self, patience_s: float = 3600.0) -> None:
        self.outage, self.ends = Outage(), JobEnds()
        self.line = WaitingLine(self.outage, self.ends, patience_s)
        self.gate = Gate()
        self.done: list[str] = []
        self.news: list[str] = []

    def enter(self, name: str) -> asyncio.Task[str]:
        async def enter() -> str:
            result = await self.line.wait_out(self.gate.ask(name), self._tell)
            self.done.append(name)
            return result

        return asyncio.create_task(enter())

    def _tell(self, news: Progress) -> None:
        assert news.kind == "waiting"
        self.news.append(news.note)

    def a_job_ends(self) -> None:
        self.ends.began()
        self.ends.ended()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(waiting_line, "_FIRST_S", 3600.0)
    return Line()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_they_are_taken_in_the_order_in_which_they_came(line: Line) -> None:
    tasks = [line.enter(name) for name in "abcde"]
    await settled()
    line.gate.room = 5
    line.a_job_ends()
    async with asyncio.timeout(_LIMIT_S):
        await asyncio.gather(*tasks)
    assert line.done == list("abcde")


async def test_only_the_first_asks_and_who_comes_later_goes_to_the_end(line: Line) -> None:
    first = line.enter("a")
    await settled()
    later = [line.enter(name) for name in "bcd"]
    await settled()
    for _ in range(3):
        line.a_job_ends()
        await settled()
    assert set(line.gate.asked) == {"a"}
    line.gate.room = 1
    line.a_job_ends()
    async with asyncio.timeout(_LIMIT_S):
        await first
    await settled()
    assert set(line.gate.asked) == {"a", "b"}
    for task in later:
        task.cancel()


async def test_all_in_line_hear_why(line: Line) -> None:
    tasks = [line.enter(name) for name in "abc"]
    await settled()
    assert line.news == ["Full."] * 3
    line.gate.refusal = QueueFull("Still full.")
    line.a_job_ends()
    await settled()
    assert line.news[3:] == ["Still full."]
    for task in tasks:
        task.cancel()


async def test_a_job_that_ends_while_the_first_asks_is_not_missed(line: Line) -> None:
    async def ask() -> str:
        line.gate.asked.append("a")
        if len(line.gate.asked) == 2:
            line.a_job_ends()
        if len(line.gate.asked) < 3:
            raise QueueFull("Full.")
        return "a"

    waiting = asyncio.create_task(line.line.wait_out(ask, lambda news: None))
    await settled()
    line.a_job_ends()
    async with asyncio.timeout(_LIMIT_S):
        assert await waiting == "a"


async def test_time_alone_makes_the_first_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_line, "_FIRST_S", 0.001)
    line = Line()
    task = line.enter("a")
    async with asyncio.timeout(_LIMIT_S):
        await line.gate.was_asked(4)
        line.gate.room = 1
        assert await task == "a"


async def test_who_gives_up_leaves_the_line_to_the_next(line: Line) -> None:
    tasks = {name: line.enter(name) for name in "abc"}
    await settled()
    tasks["b"].cancel()
    line.gate.room = 1
    tasks["a"].cancel()
    async with asyncio.timeout(_LIMIT_S):
        assert await tasks["c"] == "c"


async def test_a_refusal_for_good_is_raised_and_the_next_asks(line: Line) -> None:
    tasks = {name: line.enter(name) for name in "ab"}
    await settled()
    line.gate.refusal = DiskFull("No room.")
    line.a_job_ends()
    async with asyncio.timeout(_LIMIT_S):
        for name in "ab":
            with pytest.raises(DiskFull):
                await tasks[name]
    with pytest.raises(DiskFull):
        await line.enter("c")


@pytest.mark.parametrize(
    "refusal", [ShuttingDown("Stopping."), QuotaExceeded("Full share.", setting="storage.user_share")]
)
async def test_what_somebody_has_to_end_is_waited_for_as_long_as_the_client_is_patient(
    monkeypatch: pytest.MonkeyPatch, refusal: CapacityError
) -> None:
    monkeypatch.setattr(waiting_line, "_FIRST_S", 0.001)
    line = Line(patience_s=0.05)
    line.gate.refusal = refusal
    tasks = [line.enter(name) for name in "abcdefgh"]
    async with asyncio.timeout(_LIMIT_S):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(refusal)}
    assert line.gate.asked.count("h") <= 2, "the others' patience counts for it, too"
    line.gate.room = 1
    assert await line.enter("later") == "later"


async def test_a_full_share_is_waited_for_while_own_jobs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_line, "_FIRST_S", 3600.0)
    line = Line(patience_s=0.0)
    line.gate.refusal = QuotaExceeded("Full share.", setting="storage.user_share")
    line.ends.began()
    task = line.enter("a")
    await settled()
    line.gate.room = 1
    line.ends.ended()
    async with asyncio.timeout(_LIMIT_S):
        assert await task == "a"


async def test_a_connection_that_is_given_up_fails_all_in_line(line: Line) -> None:
    tasks = [line.enter(name) for name in "abc"]
    await settled()
    line.outage.happened(DaemonUnreachable("Gone."))
    line.a_job_ends()
    async with asyncio.timeout(_LIMIT_S):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DaemonUnreachable}
    line.gate.room = 1
    assert await line.enter("later") == "later"

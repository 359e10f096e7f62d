"""News of jobs: numbered, kept for latecomers, and going on behind what an earlier run of the daemon has told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest

from qied.edit import EditSpec
from qied.scheduling.model import JobKey
from qied.server.access.authentication import Guest
from qied.server.jobs import Job, JobBook
from qied.server.journal.changes import StoreOutcome
from qied.server.ports.peer import Peer

PICTURE = "a" * 64
OUTCOME = StoreOutcome("ann", "one", "succeeded", "b" * 64, 9, "image/png", 1, b"", None, None, None, 20.0)


class Heard:
    """What a connected client hears."""

    def __init__(self) -> None:
        self.messages: list[m.Message] = []
        self.peer = Peer(b"route", Guest("ann", b"key"), self._send, 0)
        self.peer.ready = True

    def _send(self, message: m.Message) -> bool:
        self.messages.append(message)
        return True

    @property
    def numbers(self) -> list[int]:
        return [message.number for message in self.messages if isinstance(message, m.Event | m.Result)]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def job() -> Job:
    spec = EditSpec((PICTURE,), "x", None, 1, 20, 1.0, 64, 64)
    return Job(JobKey("ann", "one"), 1, "hash", EditRequest((PICTURE,), "x", seed=1), spec)


def test_a_job_keeps_its_number_when_the_scheduler_puts_it_last() -> None:
    one = job()
    one.order = 99
    assert one.number == 1


async def test_a_result_says_how_the_picture_was_made_and_warns_of_each_thing_once(heard: Heard) -> None:
    book, one = JobBook(1), job()
    one.spec = replace(one.spec, preset="draft", precision="bf16", schedule="lightning", warnings=("a", "b"))
    one.warnings = ("b", *(f"more {number}" for number in range(9)))
    book.conclude(one, OUTCOME)
    book.follow(one, heard.peer, after=0)
    (result,) = heard.messages
    assert isinstance(result, m.Result)
    assert (result.steps, result.true_cfg_scale, result.precision, result.preset) == (20, 1.0, "bf16", "draft")
    assert (result.schedule, result.warnings[:3], len(result.warnings)) == ("lightning", ("a", "b", "more 0"), 6)


def test_only_pictures_count_as_results() -> None:
    book = JobBook(1)
    for number, state in enumerate(("succeeded", "failed", "cancelled", "poisoned")):
        one = job()
        one.key = JobKey("ann", str(number))
        one.state, one.outcome = state, replace(OUTCOME, state=state)  # type: ignore[assignment, arg-type]
        book.add(one)
    assert book.results == 1


async def test_numbers_go_on_behind_all_that_an_earlier_run_has_told(heard: Heard) -> None:
    earlier, last = JobBook(7), job()
    for step in range(1000):
        earlier.publish(last, "progress", step=step)
    told = last.news["progress"].number
    later, again = JobBook(8), job()
    later.follow(again, heard.peer, after=told)
    later.publish(again, "started")
    later.conclude(again, OUTCOME)
    assert len(heard.numbers) == 2
    assert told < heard.numbers[0] < heard.numbers[1]


async def test_who_has_heard_all_of_an_earlier_run_hears_what_the_next_has_told_since(heard: Heard) -> None:
    earlier, last = JobBook(7), job()
    for _ in range(5):
        earlier.publish(last, "progress")
    later, again = JobBook(8), job()
    later.publish(again, "started")
    later.follow(again, heard.peer, after=last.news["progress"].number)
    assert [message.kind for message in heard.messages if isinstance(message, m.Event)] == ["started"]


async def test_a_result_comes_behind_the_last_news(heard: Heard) -> None:
    book, one = JobBook(3), job()
    book.follow(one, heard.peer, after=0)
    for _ in range(3):
        book.publish(one, "progress")
    book.conclude(one, OUTCOME)
    assert heard.numbers == [(3 << 32) + number for number in (1, 2, 3, 4)]

"""Many edits at once, and edits that their callers give up, against the small daemon."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qied_client import AsyncClient, Client, Progress
from qied_client.aio.uploads import PictureUpload
from qied_client.errors import (
    BlobMismatch,
    DaemonUnreachable,
    DiskFull,
    InvalidRequest,
    JobFailed,
    QiedError,
    QueueFull,
    QuotaExceeded,
    RequestTimeout,
    UnknownBlob,
    VersionMismatch,
)
from qied_client.protocol import messages as m

_LIMIT_S = 30.0
_FULL = QueueFull("The queue is full.", "Try again later.")


@pytest.fixture
async def client(daemon: Any) -> AsyncIterator[AsyncClient]:
    daemon.welcome = replace(daemon.welcome, version=2)
    async with AsyncClient(daemon.key) as client:
        yield client


async def heard(daemon: Any, kind: type[m.Message]) -> Any:
    return await asyncio.to_thread(daemon.wait_for, kind)


def all_heard(daemon: Any, kind: type[m.Message]) -> list[Any]:
    found = []
    while not daemon.heard.empty():
        message = daemon.heard.get()
        if isinstance(message, kind):
            found.append(message)
    return found


class Refusing:
    """Refuses messages of a kind until there is room; without an error it leaves them unanswered."""

    def __init__(self, kind: type[m.Message], error: QiedError | None = _FULL) -> None:
        self.kind, self.error, self.room = kind, error, 0
        self.refused: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, message: m.Message) -> Any:
        if isinstance(message, self.kind):
            if self.room <= 0:
                with self._changed:
                    self.refused.append(message)
                    self._changed.notify_all()
                return [] if self.error is None else [m.Failure.of(self.error, getattr(message, "id", None))]
            self.room -= 1
        return None

    async def was_asked(self, times: int) -> None:
        """Wait until it has refused so many."""
        await asyncio.to_thread(self._wait, times)

    def _wait(self, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.refused) >= times, _LIMIT_S)


# Many at once


@pytest.mark.parametrize("kind", [m.Put, m.Quote, m.Submit, m.Resume, m.Get])
async def test_what_is_refused_for_now_is_waited_out_and_the_caller_hears_why(
    client: AsyncClient, daemon: Any, picture: bytes, kind: type[m.Message]
) -> None:
    daemon.before = refusing = Refusing(kind)
    news: list[Progress] = []
    editing = asyncio.create_task(client.edit(picture, "x", on_progress=news.append))
    await refusing.was_asked(2)
    refusing.room = 100
    assert (await editing).bytes == picture
    assert "The queue is full." in {one.note for one in news if one.kind == "waiting"}


async def test_only_some_pictures_are_in_memory_while_many_edits_wait(
    client: AsyncClient, daemon: Any, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: weakref.WeakSet[PictureUpload] = weakref.WeakSet()
    init = PictureUpload.__init__

    def counted(self: PictureUpload, picture: Any) -> None:
        init(self, picture)
        made.add(self)
        most.append(len(made))

    most: list[int] = []
    monkeypatch.setattr(PictureUpload, "__init__", counted)
    daemon.before = refusing = Refusing(m.Submit)
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(picture + bytes([number]))
    editing = asyncio.gather(*(client.edit(path, "x") for path in paths))
    await refusing.was_asked(10)
    assert len(daemon.blobs) <= 8
    assert [upload for upload in made if upload._data is not None] == []
    refusing.room = 100
    assert [result.bytes for result in await editing] == [path.read_bytes() for path in paths]
    gc.collect()
    assert max(most) <= 8 + 1, "one more may be read before the garbage of another is gone"


async def test_who_says_so_hears_of_a_full_daemon_at_once(daemon: Any, picture: bytes) -> None:
    async with AsyncClient(daemon.key, when_full="fail") as client:
        daemon.before = Refusing(m.Submit)
        with pytest.raises(QueueFull):
            await client.edit(picture, "x")
        daemon.before = refusing = Refusing(m.Get)
        editing = asyncio.create_task(client.edit(picture, "x"))
        await refusing.was_asked(1)
        refusing.room = 1
        assert (await editing).bytes == picture, "what was accepted is waited for"
    with pytest.raises(InvalidRequest, match="when_full"):
        AsyncClient(daemon.key, when_full="never")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [DiskFull("No room."), QuotaExceeded("Too many.", passes=False)])
async def test_what_does_not_pass_is_raised_at_once(
    client: AsyncClient, daemon: Any, picture: bytes, error: QiedError
) -> None:
    daemon.before = refusing = Refusing(m.Submit, error)
    with pytest.raises(type(error)):
        await client.edit(picture, "x")
    assert len(refusing.refused) == 1


async def test_a_picture_that_is_gone_before_the_edit_comes_is_uploaded_again(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    gone = iter([UnknownBlob("It was evicted.")])

    def once(message: m.Message) -> Any:
        error = next(gone, None) if isinstance(message, m.Submit) else None
        return None if error is None else [m.Failure.of(error, message.id)]

    daemon.before = once
    assert (await client.edit(picture, "x")).bytes == picture
    assert len(all_heard(daemon, m.Put)) == 2
    daemon.before = refusing = Refusing(m.Submit, UnknownBlob("It was evicted."))
    with pytest.raises(UnknownBlob):
        await client.edit(picture, "x")
    assert len(refusing.refused) == 3


async def test_few_requests_are_under_way_at_a_time(daemon: Any, picture: bytes) -> None:
    daemon.welcome = replace(daemon.welcome, version=2, requests=4)
    daemon.before = holding = Refusing(m.Status, None)
    async with AsyncClient(daemon.key) as client:
        asking = [asyncio.create_task(client.status()) for _ in range(9)]
        await holding.was_asked(3)
        holding.room = 100
        for message in holding.refused:
            daemon.send(daemon.answer(message)[0])
        assert len(await asyncio.gather(*asking)) == 9
        assert len(holding.refused) == 3


async def test_a_lost_connection_reaches_all_who_wait(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    heard_of: dict[str, list[str]] = {"a": [], "b": []}
    daemon.before = lambda message: [] if isinstance(message, (m.Resume, m.Put)) else None
    editing = [
        asyncio.create_task(client.edit(picture, "x", on_progress=lambda news, w=who: heard_of[w].append(news.note)))
        for who in heard_of
    ]
    await heard(daemon, m.Put)
    await asyncio.to_thread(daemon.stop)
    daemon.before = lambda message: None
    await asyncio.to_thread(daemon.start)
    await asyncio.gather(*editing)
    for notes in heard_of.values():
        assert [note for note in notes if note] == ["connection lost", "connected again"]


# Several results


async def test_several_results_have_seeds_one_after_the_other_and_one_upload(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    results = await client.edit(picture, "x", n=3, seed=2**63 - 2, job_id="mine")
    assert [result.seed for result in results] == [2**63 - 2, 2**63 - 1, 0]
    assert [result.job for result in results] == ["mine-1", "mine-2", "mine-3"]
    assert len(all_heard(daemon, m.Put)) == 1
    assert [result.job for result in await client.edit(picture, "x", n=1, job_id="one")] == ["one-1"]
    for wrong in (0, 65, True, "2"):
        with pytest.raises(InvalidRequest, match="n: must be a whole number from 1 to 64"):
            await client.edit(picture, "x", n=wrong)  # type: ignore[call-overload]


async def test_one_of_several_that_fails_is_named_and_the_others_are_kept(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    def one_fails(message: m.Message) -> Any:
        if not isinstance(message, m.Resume) or message.job != "mine-2":
            return None
        failed = m.Result(message.job, 1, "failed", code="job_failed", message="It broke.", remedy="Retry.")
        return [m.Resumed(message.id, message.job, "failed"), failed]

    daemon.before = one_fails
    with pytest.raises(JobFailed, match=r"Job mine-2: It broke\. The pictures of mine-1, mine-3 are kept\.") as caught:
        await client.edit(picture, "x", n=3, job_id="mine")
    assert caught.value.details["job"] == "mine-2"
    assert caught.value.details["others"] == "mine-1 mine-3"
    assert "client.job('mine-1').result()" in caught.value.remedy
    assert all_heard(daemon, (m.Cancel, m.Release)) == []  # type: ignore[arg-type]


# Given up


class Running:
    """Jobs that go on until they are cancelled."""

    def __init__(self, answer: str = "cancelled", state: str = "cancelled") -> None:
        self.answer, self.state = answer, state

    def __call__(self, message: m.Message) -> Any:
        if isinstance(message, m.Resume):
            return [m.Resumed(message.id, message.job, "running")]
        if isinstance(message, m.Cancel):
            return [m.Cancelling(message.id, message.job, self.answer, self.state)]
        return None


async def test_a_late_edit_is_cancelled_and_says_so(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    daemon.before = Running()
    with pytest.raises(RequestTimeout, match=r"within 0\.2 s\. Job mine was cancelled\.") as caught:
        await client.edit(picture, "x", job_id="mine", timeout=0.2)
    assert caught.value.details["job"] == "mine"
    assert (await heard(daemon, m.Cancel)).job == "mine"
    with pytest.raises(RequestTimeout, match=r"Jobs several-1, several-2 were cancelled\."):
        await client.edit(picture, "x", n=2, job_id="several", timeout=0.2)


async def test_a_late_edit_that_had_just_finished_says_how_to_fetch_it(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    daemon.before = Running("finished", "succeeded")
    with pytest.raises(RequestTimeout, match="Job mine had just finished") as caught:
        await client.edit(picture, "x", job_id="mine", timeout=0.2)
    assert "client.job('mine').result()" in caught.value.remedy
    daemon.send(daemon._news(daemon.jobs["mine"])[-1])
    assert (await (await client.job("mine")).result()).bytes == picture


async def test_a_cancelled_task_cancels_its_edit_and_leaves_a_note(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    daemon.before = Running()
    editing = asyncio.create_task(client.edit(picture, "x", job_id="mine"))
    await heard(daemon, m.Resume)
    editing.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await editing
    assert caught.value.__notes__ == ["Job mine was cancelled."]
    session = await client.session(picture)
    turn = asyncio.create_task(session.edit("x", job_id="turn"))
    await heard(daemon, m.Resume)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await turn
    assert caught.value.__notes__ == ["Job turn was cancelled."]


async def test_a_submitted_job_goes_on_without_who_waited_for_it(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    daemon.before = Running()
    job = await client.submit(picture, "x", job_id="mine")
    waiting = asyncio.create_task(job.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert caught.value.__notes__ == ["Job mine goes on. Fetch its picture with client.job('mine').result()."]
    assert all_heard(daemon, m.Cancel) == []


async def test_an_edit_that_is_given_up_before_it_was_handed_in_cancels_nothing(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    daemon.before = lambda message: [] if isinstance(message, m.Put) else None
    with pytest.raises(RequestTimeout, match="had accepted nothing yet"):
        await client.edit(picture, "x", timeout=0.2)
    assert (await client.status()).model == "echo"
    assert all_heard(daemon, m.Cancel) == []


async def test_an_edit_that_is_given_up_while_it_is_handed_in_is_cancelled_once_it_is_accepted(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    holding, running = Refusing(m.Submit, None), Running()
    daemon.before = lambda message: running(message) if holding(message) is None else []
    with pytest.raises(RequestTimeout, match="Job mine may go on: the daemon has not answered yet"):
        await client.edit(picture, "x", job_id="mine", timeout=0.2)
    for answer in daemon.answer(holding.refused[0]):
        daemon.send(answer)
    assert (await heard(daemon, m.Cancel)).job == "mine"


async def test_an_error_in_on_progress_cancels_the_edit(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    def begun(message: m.Message) -> Any:
        answers = Running()(message)
        return [*answers, m.Event(message.job, 1, "started")] if isinstance(message, m.Resume) else answers

    def broken(news: Progress) -> None:
        if news.kind == "started":
            raise ZeroDivisionError(news.kind)

    daemon.before = begun
    with pytest.raises(ZeroDivisionError) as caught:
        await client.edit(picture, "x", job_id="mine", on_progress=broken)
    assert caught.value.__notes__ == ["Job mine was cancelled."]
    assert (await heard(daemon, m.Cancel)).job == "mine"


def test_ctrl_c_cancels_the_edit_of_a_synchronous_client(daemon: Any, picture: bytes) -> None:
    daemon.before = Running()
    with Client(daemon.key) as client:

        def interrupt() -> None:
            daemon.wait_for(m.Resume)
            assert ident is not None
            signal.pthread_kill(ident, signal.SIGINT)

        ident = threading.main_thread().ident
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            client.edit(picture, "x", job_id="mine")
        interrupting.join()
        assert caught.value.__notes__ == ["Job mine was cancelled."]
        assert client.status().model == "echo"


# Released


async def test_a_picture_that_is_here_may_be_forgotten_but_need_not(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    await client.edit(picture, "x", job_id="mine")
    assert (await heard(daemon, m.Release)).keep
    await client.release("mine", keep=True)
    assert (await heard(daemon, m.Release)).keep
    await client.release("mine")
    assert not (await heard(daemon, m.Release)).keep


async def test_a_daemon_of_version_1_keeps_what_may_be_asked_for_by_name(daemon: Any, picture: bytes) -> None:
    async with AsyncClient(daemon.key) as client:
        await client.edit(picture, "x", job_id="mine")
        await client.release("mine", keep=True)
        unnamed = await client.edit(picture, "x")
        assert (await heard(daemon, m.Release)).job == unnamed.job
        with pytest.raises(VersionMismatch, match="list of jobs"):
            await client.jobs()


# Jobs


def info(number: int, job: str) -> m.JobInfo:
    return m.JobInfo(job, number, "succeeded", "Make it", 7, 20, 64, 48, "bf16", "final", 1_000, 2_500)


async def test_jobs_are_listed_page_by_page(client: AsyncClient, daemon: Any) -> None:
    def pages(message: m.Message) -> Any:
        if not isinstance(message, m.ListJobs):
            return None
        newest = 30 if message.before is None else message.before - 1
        rows = tuple(info(number, f"job-{number}") for number in range(newest, max(0, newest - 14), -1))
        return [m.JobList(message.id, rows, more=newest > 14)]

    daemon.before = pages
    everything = await client.jobs(limit=None)
    assert [row.number for row in everything] == list(range(30, 0, -1))
    assert [row.number for row in await client.jobs(limit=16, before=20)] == list(range(19, 3, -1))
    assert everything[0].finished and everything[0].finished_at is not None
    assert everything[0].finished_at.timestamp() == 2.5


async def test_everything_about_a_job_can_be_asked_for(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    def fetched(message: m.Message) -> Any:
        if not isinstance(message, m.Fetch):
            return None
        body = b"jpeg" if message.thumbnail else b""
        return [m.Fetched(message.id, info(3, message.job), "Make it night.", warnings=("Odd.",), thumbnail=body)]

    daemon.before = fetched
    job = await client.submit(picture, "x", job_id="mine")
    status = await job.status()
    assert (status.id, status.prompt, status.warnings, status.state) == (
        "mine",
        "Make it night.",
        ("Odd.",),
        "succeeded",
    )
    assert await job.thumbnail() == b"jpeg"
    assert [news.kind async for news in job] == ["queued", "step", "preview"]


# What was accepted is not lost


async def test_a_picture_that_arrives_damaged_names_its_job(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    def damaged(message: m.Message) -> Any:
        return [m.Chunk(message.id, 0, 4, b"oops")] if isinstance(message, m.Get) else None

    daemon.before = damaged
    with pytest.raises(BlobMismatch, match="mine has finished, and the daemon keeps its picture") as caught:
        await client.edit(picture, "x", job_id="mine")
    assert caught.value.details["job"] == "mine"
    assert "client.job('mine').result()" in caught.value.remedy
    daemon.before = lambda message: None
    assert (await (await client.job("mine")).result()).bytes == picture


@pytest.mark.parametrize("kind", [m.Submit, m.Resume, m.Get])
async def test_a_daemon_that_stays_away_leaves_an_error_that_names_the_job(
    daemon: Any, picture: bytes, kind: type[m.Message]
) -> None:
    daemon.before = holding = Refusing(kind, None)
    async with AsyncClient(daemon.key, patience=0.2) as client:
        editing = [asyncio.create_task(client.edit(picture, "x", job_id=f"mine-{one}")) for one in range(12)]
        await holding.was_asked(8)
        await asyncio.to_thread(daemon.stop)
        async with asyncio.timeout(_LIMIT_S):
            outcomes = await asyncio.gather(*editing, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DaemonUnreachable}
    for number, error in enumerate(outcomes[:8]):
        assert isinstance(error, DaemonUnreachable)
        assert error.details["job"] == f"mine-{number}"
        assert f"client.job('mine-{number}').result()" in error.remedy


async def test_a_closed_client_fails_all_that_wait(daemon: Any, picture: bytes) -> None:
    daemon.before = refusing = Refusing(m.Submit)
    client = AsyncClient(daemon.key)
    editing = [asyncio.create_task(client.edit(picture, "x")) for _ in range(30)]
    await refusing.was_asked(9)
    await client.close()
    async with asyncio.timeout(_LIMIT_S):
        outcomes = await asyncio.gather(*editing, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DaemonUnreachable}

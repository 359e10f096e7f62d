"""What was acknowledged is on the disk: commits in groups, kills, full disks."""

import asyncio
import dataclasses
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from qied_client.errors import (
    DiskFull,
    InternalError,
    ShuttingDown,
)

from qied.server.journal.changes import (
    OwnBlob,
    SetPaused,
)
from qied.server.journal.errors import DuplicateJob
from qied.server.journal.journal import Journal
from tests.server.journal.journal_rows import (
    RESULT,
    accept,
    reopened,
)


class TestGroupCommit:
    async def test_gives_each_of_many_waiting_calls_its_own_answer(self, journal: Journal) -> None:
        calls = [journal.apply(accept(f"job {number // 2}", number + 1)) for number in range(100)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0::2] == [(True,)] * 50
        assert all(isinstance(answer, DuplicateJob) for answer in answers[1::2])
        assert len(journal.load().jobs) == 50

    async def test_undoes_a_failing_call_and_keeps_its_neighbours(self, journal: Journal) -> None:
        unstorable = accept("two", 2**70)
        answers = await asyncio.gather(
            journal.apply(accept("one", 1)),
            journal.apply(OwnBlob("ann", RESULT, 1, 1.0), unstorable),
            journal.apply(accept("three", 3)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [tuple, InternalError, tuple]
        assert set(journal.load().jobs) == {("ann", "one"), ("ann", "three")}
        assert journal.load().owners == {}

    async def test_carries_out_a_call_whose_waiting_was_cancelled(self, journal: Journal, path: Path) -> None:
        call = asyncio.create_task(journal.apply(accept()))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        again = await reopened(journal, path)
        assert ("ann", "one") in again.load().jobs
        await again.close()

    async def test_answers_the_neighbours_of_a_call_that_was_cancelled(self, journal: Journal) -> None:
        calls = [asyncio.create_task(journal.apply(accept(str(number), number + 1))) for number in range(10)]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[4].cancel()
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        assert [type(answer) for answer in answers].count(asyncio.CancelledError) == 2
        assert answers.count((True,)) == 8
        assert len(journal.load().jobs) == 10

    async def test_stores_at_closing_what_is_on_its_way_and_takes_nothing_after(
        self, journal: Journal, path: Path
    ) -> None:
        calls = [asyncio.create_task(journal.apply(accept(str(number), number))) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(journal.close(), journal.close())
        assert await asyncio.gather(*calls) == [(True,)] * 20
        with pytest.raises(ShuttingDown):
            await journal.apply(accept("late", 99))
        with closing(sqlite3.connect(path)) as look:
            assert look.execute("SELECT count(*) FROM jobs").fetchone() == (20,)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    async def test_leaves_nobody_waiting_for_a_writer_that_died(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise KeyError("a defect")

        monkeypatch.setattr("qied.server.journal.statements.execute", die)
        with pytest.raises(InternalError):
            await asyncio.wait_for(journal.apply(accept()), 10)
        with pytest.raises(ShuttingDown):
            await journal.apply(accept())


WRITER = """
    import asyncio, itertools, sys
    from pathlib import Path
    from qied.server.journal.journal import Journal
    from qied.server.journal.changes import *

    async def keep_writing(journal, name):
        for number in itertools.count():
            job = f"{name}.{number}"
            order = journal.next_order + number * 8 + int(name[-1])
            await journal.apply(
                AcceptJob("ann", job, order, "h", bytes(200), bytes(100), job, 1, None, ("a", "b"), 1.0),
                OpenSession("ann", job, "a", 1.0),
                AddTurn("ann", job, 1, job, 0, 1.0),
            )
            print("accepted", job, flush=True)
            await journal.apply(
                StoreOutcome("ann", job, "succeeded", "r", 1, "image/png", 1, b"", None, None, None, 2.0),
                OwnBlob("ann", job, 1, 1.0),
            )
            print("ended", job, flush=True)

    async def main():
        journal = Journal.open(Path(sys.argv[1]))
        print("opened", journal.incarnation, flush=True)
        await asyncio.gather(*(keep_writing(journal, f"{journal.incarnation}-{n}") for n in range(8)))

    asyncio.run(main())
"""


def run_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_what_was_acknowledged_survives_sigkill_at_any_moment_and_nothing_is_half(path: Path) -> None:
    acknowledged: dict[str, set[str]] = {"accepted": set(), "ended": set(), "opened": set()}
    lines_before_the_kill = random.Random(7)
    for _ in range(6):
        with run_writer(path) as writer:
            assert writer.stdout is not None
            for _ in range(lines_before_the_kill.randrange(2, 400)):
                event, name = writer.stdout.readline().split()
                acknowledged[event].add(name)
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n"):
                    event, name = line.split()
                    acknowledged[event].add(name)
        journal = Journal.open(path)
        state = journal.load()
        await journal.close()
        accepted = {job for _, job in state.jobs}
        ended = {job for (_, job), stored in state.jobs.items() if stored.outcome}
        assert acknowledged["accepted"] <= accepted
        assert acknowledged["ended"] <= ended
        assert {name for (_, name), session in state.sessions.items() if len(session.turns) == 1} == accepted
        assert all(stored.accepted.blobs == ("a", "b") for stored in state.jobs.values())
        assert {name for _, name in state.owners} == ended
    assert len(acknowledged["opened"]) == 6


FILLER = """
    import asyncio, resource, sys
    from pathlib import Path
    from qied.server.journal.journal import Journal
    from qied.server.journal.changes import *
    from qied_client.errors import DiskFull

    def accept(number, size):
        return AcceptJob("ann", str(number), number, "h", bytes(size), b"", None, None, None, (), 1.0)

    async def main():
        journal = Journal.open(Path(sys.argv[1]))
        await journal.apply(accept(1, 100))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        together = [journal.apply(accept(2, 100)), journal.apply(accept(3, 1_000_000)), journal.apply(accept(4, 100))]
        answers = await asyncio.gather(*together, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, DiskFull, tuple], answers
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await journal.apply(accept(3, 1_000_000))
        assert [job for _, job in journal.load().jobs] == ["1", "2", "3", "4"]
        await journal.close()

    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_write_that_fails_costs_only_its_own_call_and_works_again_later(path: Path) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(FILLER), str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_reported_and_nothing_of_the_call_stays(small_disk: Path) -> None:
    journal = Journal.open(small_disk / "journal.sqlite3")
    filler = small_disk / "filler"
    await journal.apply(accept("before", 1))
    filler.write_bytes(bytes(700_000))
    large = dataclasses.replace(accept("large", 2), request=bytes(400_000))
    with pytest.raises(DiskFull, match="journal"):
        await journal.apply(OwnBlob("ann", RESULT, 1, 1.0), large)
    assert set(journal.load().jobs) == {("ann", "before")}
    assert journal.load().owners == {}
    filler.unlink()
    await journal.apply(large)
    await journal.close()
    again = Journal.open(small_disk / "journal.sqlite3")
    assert set(again.load().jobs) == {("ann", "before"), ("ann", "large")}
    await again.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1), ("journal_mode", "wal"), ("foreign_keys", 1)],
)
async def test_each_commit_is_on_the_disk_itself_before_it_counts(
    journal: Journal, setting: str, value: int | str
) -> None:
    found = await journal._writer.submit(lambda connection: connection.execute(f"PRAGMA {setting}").fetchone())
    assert found == (value,)


async def test_each_commit_is_timed_also_one_of_a_refused_call(path: Path) -> None:
    seconds: list[float] = []
    journal = Journal.open(path, seconds.append)
    await journal.apply(accept())
    with pytest.raises(DuplicateJob):
        await journal.apply(accept())
    await journal.apply(SetPaused(True))
    assert len(seconds) == 3 and min(seconds) > 0
    await journal.close()


async def test_a_loop_that_is_gone_does_not_hurt_the_writer(path: Path) -> None:
    async def accept_and_walk_away() -> Journal:
        journal = Journal.open(path)
        call = asyncio.ensure_future(journal.apply(accept()))
        await asyncio.sleep(0)
        call.cancel()
        return journal

    journal = await asyncio.to_thread(asyncio.run, accept_and_walk_away())
    await journal.apply(accept("two", 2))
    assert set(journal.load().jobs) == {("ann", "one"), ("ann", "two")}
    await journal.close()

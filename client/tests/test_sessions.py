"""Sessions against the small daemon: what their history tells, and how one goes back and forth in it."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from qied_client import AsyncClient, AsyncSession, Client
from qied_client.errors import (
    NothingToRedo,
    NothingToUndo,
    SetupError,
    UnknownJob,
    UnknownSession,
    UnknownTurn,
    VersionMismatch,
)
from qied_client.history import SessionSummary, Turn
from qied_client.protocol import messages as m
from qied_client.transfers import hash_of


@pytest.fixture
def daemon(daemon: Any) -> Any:
    daemon.welcome = replace(daemon.welcome, version=2)
    return daemon


@pytest.fixture
async def client(daemon: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.key) as client:
        yield client


@pytest.fixture
async def session(client: AsyncClient, picture: bytes) -> AsyncSession:
    return await client.session(picture, name="poster")


@pytest.fixture
def sync_client(daemon: Any) -> Iterator[Client]:
    with Client(daemon.key) as client:
        yield client


def minute(number: int, milliseconds: int = 0) -> datetime:
    return datetime(1970, 6, 16, 0, number, milliseconds // 1000, milliseconds % 1000 * 1000, UTC)


async def test_its_history_says_what_was_asked_for_and_when(session: AsyncSession, picture: bytes) -> None:
    jobs = [await session.submit(f"edit {number}", seed=number) for number in range(1, 6)]
    history = await session.history()
    assert [turn.turn for turn in history] == [1, 2, 3, 4, 5]
    assert history[1] == Turn(2, 1, jobs[1].id, "succeeded", "edit 2", 2, minute(2), minute(2, 1_500), hash_of(picture))
    assert session.head == 5


async def test_of_an_older_daemon_the_history_has_no_more_than_that_tells(
    client: AsyncClient, session: AsyncSession, daemon: Any
) -> None:
    job = await session.submit("x")
    daemon.welcome = replace(daemon.welcome, version=1)
    async with AsyncClient(daemon.key) as older:
        session = await older.take_up_session("poster")
        assert await session.history() == (Turn(1, 0, job.id, "succeeded"),)
        assert (await session.result(1)).turn == 1
        with pytest.raises(UnknownTurn):
            await session.result(2)
        with pytest.raises(VersionMismatch, match="no redo"):
            await session.redo()
        with pytest.raises(VersionMismatch, match="no list of sessions"):
            await older.sessions()


def test_of_a_turn_that_the_daemon_knows_no_more_of_the_seed_is_not_0() -> None:
    row = m.TurnInfo(1, 0, "job", "released", "", 0, 0, 0, "0" * 64)
    assert Turn.of(row) == Turn(1, 0, "job", "released", blob="0" * 64)
    assert Turn.of(replace(row, accepted_ms=60_000)).seed == 0


async def test_undo_and_redo_go_back_and_forth(session: AsyncSession) -> None:
    with pytest.raises(NothingToUndo):
        await session.undo()
    with pytest.raises(NothingToRedo):
        await session.redo()
    for prompt in ("a", "b", "c"):
        await session.submit(prompt)
    assert [await session.undo() for _ in range(3)] == [2, 1, 0]
    assert [await session.redo() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(NothingToRedo, match="turn 3"):
        await session.redo()


async def test_redo_takes_the_newest_turn_that_edited_the_latest_picture(session: AsyncSession) -> None:
    for prompt, base in (("a", None), ("b", None), ("c", 1), ("d", None), ("e", 2)):
        await session.submit(prompt, base=base)
    assert [await session.undo() for _ in range(3)] == [2, 1, 0]
    assert [await session.redo() for _ in range(3)] == [1, 3, 4]


@pytest.mark.parametrize("state", ["failed", "cancelled", "poisoned", "released"])
async def test_redo_passes_over_turns_without_a_picture(session: AsyncSession, daemon: Any, state: str) -> None:
    await session.submit("a")
    await session.undo()
    await session.submit("b")
    await session.undo()
    turns = daemon.sessions["poster"].turns
    turns[1] = replace(turns[1], state=state, blob=None)
    assert await session.redo() == 1
    await session.undo()
    turns[1] = replace(turns[1], state="running")
    assert await session.redo() == 2


async def test_turn_0_is_the_first_picture_as_it_was_uploaded(client: AsyncClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (48, 32)).save(file, "JPEG", exif=exif)
    session = await client.session(file.getvalue())
    first = await session.result()
    assert first == await session.result(0)
    assert (first.bytes, first.media_type, first.width, first.height) == (file.getvalue(), "image/jpeg", 32, 48)
    assert (first.turn, first.job) == (0, "")


async def test_a_first_picture_is_saved_under_a_name_of_its_format(client: AsyncClient, tmp_path: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (48, 32)).save(file, "JPEG")
    result = await (await client.session(file.getvalue())).result(0)
    for name in ("a.jpg", "a.jpeg"):
        assert result.save(tmp_path / name).read_bytes() == file.getvalue()


async def test_the_picture_of_a_turn_outlasts_its_job(
    client: AsyncClient, session: AsyncSession, daemon: Any, picture: bytes
) -> None:
    job = await session.submit("x", seed=7)
    daemon.jobs.clear()
    result = await session.result(1)
    assert (result.bytes, result.media_type, result.width, result.height) == (picture, "image/png", 64, 64)
    assert (result.seed, result.job, result.turn) == (7, job.id, 1)
    turns = daemon.sessions["poster"].turns
    turns[0] = replace(turns[0], blob=None)
    with pytest.raises(UnknownJob):
        await session.result(1)


@pytest.mark.parametrize("turn", [-1, 2, 2**31, 2**40])
async def test_a_turn_that_it_does_not_have_is_named(session: AsyncSession, turn: int) -> None:
    await session.submit("x")
    with pytest.raises(UnknownTurn, match=f"no turn {turn}"):
        await session.result(turn)
    with pytest.raises(UnknownTurn, match=f"no turn {turn}"):
        await session.thumbnail(turn)


async def test_a_thumbnail_comes_from_the_daemon(session: AsyncSession, daemon: Any) -> None:
    job = await session.submit("x")
    daemon.thumbnail = b"a small JPEG"
    assert await session.thumbnail() == await session.thumbnail(1) == b"a small JPEG"
    fetch = daemon.wait_for(m.Fetch)
    assert (fetch.job, fetch.thumbnail) == (job.id, True)


async def test_a_thumbnail_that_the_daemon_does_not_have_is_made_here(
    client: AsyncClient, session: AsyncSession
) -> None:
    await session.submit("x")
    for turn in (0, 1):
        small = Image.open(io.BytesIO(await session.thumbnail(turn)))
        assert (small.format, small.size) == ("JPEG", (64, 64))


async def test_a_turn_without_a_picture_has_no_thumbnail(session: AsyncSession, daemon: Any) -> None:
    await session.submit("x")
    turns = daemon.sessions["poster"].turns
    for state, remedy in (("running", "Wait"), ("failed", "history")):
        turns[0] = replace(turns[0], state=state, blob=None)
        with pytest.raises(UnknownTurn, match=f"it is {state}.* {remedy}"):
            await session.thumbnail(1)


async def test_without_pillow_a_thumbnail_of_the_first_picture_says_what_is_missing(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SetupError, match="Pillow"):
        await session.thumbnail(0)


async def test_in_a_with_block_it_is_closed_at_the_end(client: AsyncClient, picture: bytes) -> None:
    async with client.session(picture, name="short") as session:
        await session.submit("x")
    with pytest.raises(UnknownSession):
        await client.take_up_session("short")
    async with await client.session(picture, name="long") as session:
        pass
    with pytest.raises(UnknownSession):
        await client.take_up_session("long")


async def test_an_error_in_the_block_closes_it_and_is_not_hidden(
    daemon: Any, client: AsyncClient, picture: bytes
) -> None:
    refusal = UnknownSession("There is no such session.")
    with pytest.raises(ZeroDivisionError):
        async with client.session(picture, name="short"):
            raise ZeroDivisionError
    assert "short" not in daemon.sessions
    daemon.before = lambda message: [m.Failure.of(refusal, message.id)] if isinstance(message, m.Close) else None
    with pytest.raises(ZeroDivisionError):
        async with client.session(picture, name="short"):
            raise ZeroDivisionError
    with pytest.raises(UnknownSession):
        async with client.session(picture, name="short"):
            pass


async def test_awaited_it_stays_open(client: AsyncClient, session: AsyncSession) -> None:
    assert repr(session) == "<AsyncSession 'poster' at turn 0>"
    assert repr(await client.take_up_session("poster")) == repr(session)


async def test_sessions_are_listed_the_last_used_one_first(client: AsyncClient, picture: bytes) -> None:
    for number, name in enumerate(("a", "b", "c", "d", "e")):
        session = await client.session(picture, name=name)
        for turn in range(number % 4):
            await session.submit(f"{name} {turn}")
    listed = await client.sessions()
    assert [(row.name, row.turns) for row in listed] == [("d", 3), ("c", 2), ("b", 1), ("a", 0), ("e", 0)]
    assert listed[1] == SessionSummary("c", 2, 2, minute(0), minute(2), "c 1", hash_of(picture))


def test_the_synchronous_session_does_the_same(sync_client: Client, daemon: Any, picture: bytes) -> None:
    with sync_client.session(picture, name="poster") as session:
        assert (session.name, repr(session)) == ("poster", "<Session 'poster' at turn 0>")
        session.edit("x", seed=1)
        assert (session.undo(), session.redo()) == (0, 1)
        assert [turn.prompt for turn in session.history()] == ["x"]
        assert session.result(0).bytes == picture
        daemon.thumbnail = b"a small JPEG"
        assert session.thumbnail() == b"a small JPEG"
        assert [row.name for row in sync_client.sessions()] == ["poster"]
    assert sync_client.sessions() == ()

"""What waits to be read is bounded by what the client proves to have read, for each connection and for each user."""

from __future__ import annotations

import asyncio

from qied.config import Config
from qied.server.ports.account import Account
from qied.server.ports.backlog import ASK_BYTES, CONNECTION_BYTES, Backlog

LIMIT = Config().limits.unread_bytes_per_user


def fill(backlog: Backlog, size: int) -> list[int]:
    """Send so many bytes in pieces; returns the questions that were asked."""
    questions = [backlog.sent(ASK_BYTES, now_ms=5) for _ in range(size // ASK_BYTES)]
    return [question for question in questions if question is not None]


async def waits(backlog: Backlog) -> asyncio.Task[None]:
    """A download that waits for room."""
    task = asyncio.create_task(backlog.room(ASK_BYTES))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_download_waits_until_a_pong_proves_that_what_was_sent_before_was_read() -> None:
    account = Account("ann")
    backlog = Backlog(account)
    (question,) = fill(backlog, CONNECTION_BYTES)
    download = await waits(backlog)
    assert backlog.asked_ms == 5
    backlog.answered(question + 1)
    await asyncio.sleep(0)
    assert not download.done()
    backlog.answered(question)
    await download
    assert backlog.unread == CONNECTION_BYTES - ASK_BYTES
    backlog.give_back(ASK_BYTES)
    assert account.unread == backlog.unread
    assert backlog.sent(1, now_ms=9) is not None


async def test_room_that_is_held_is_not_given_twice() -> None:
    backlog = Backlog(Account("ann"))
    fill(backlog, CONNECTION_BYTES - ASK_BYTES)
    await backlog.room(ASK_BYTES)
    second = await waits(backlog)
    backlog.give_back(ASK_BYTES)
    await second


async def test_all_connections_of_a_user_share_one_limit_and_one_that_ends_gives_its_part_back() -> None:
    account = Account("ann")
    full = [Backlog(account) for _ in range(LIMIT // CONNECTION_BYTES)]
    for backlog in full:
        fill(backlog, CONNECTION_BYTES)
    fresh = Backlog(account)
    download = await waits(fresh)
    await Backlog(Account("bob")).room(ASK_BYTES)
    full[0].close()
    await download
    full[0].sent(ASK_BYTES, now_ms=5)
    assert full[0].unread == 0


async def test_a_connection_that_was_sent_too_little_to_be_asked_is_asked_where_a_download_waits() -> None:
    account = Account("ann")
    small = [Backlog(account) for _ in range(LIMIT // ASK_BYTES)]
    assert {backlog.sent(ASK_BYTES - 1, now_ms=5) for backlog in small} == {None}
    assert small[0].wanted(now_ms=6) is None
    download = await waits(Backlog(account))
    question = small[0].wanted(now_ms=6)
    assert question is not None
    small[0].answered(question)
    await download


async def test_answers_that_nobody_reads_overflow() -> None:
    backlog = Backlog(Account("ann"))
    while not backlog.overflows:
        backlog.sent(100_000, now_ms=5)
    assert backlog.unread < 3 * CONNECTION_BYTES

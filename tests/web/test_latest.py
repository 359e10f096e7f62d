"""Who is behind hears where things stand, in one piece, and is given up when that is too much."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from qied_client.web.http.latest import Latest

PUTS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.binary(min_size=1, max_size=3), min_size=1, max_size=3), max_size=12
)


async def read(latest: Latest) -> list[bytes]:
    """All pieces until its end."""
    return [piece async for piece in latest.pieces()]


async def piece_of(latest: Latest) -> bytes:
    pieces = latest.pieces()
    try:
        return await anext(pieces)
    finally:
        await pieces.aclose()


def test_a_reader_that_keeps_up_hears_everything_in_its_order():
    async def run() -> list[bytes]:
        latest, heard = Latest(), []
        pieces = latest.pieces()
        for news in ({"job": b"1", "status": b"s"}, {"job": b"2"}, {"job": b"3"}):
            latest.put(news)
            heard.append(await anext(pieces))
        return heard

    assert asyncio.run(run()) == [b"1s", b"2", b"3"]


def test_a_reader_that_is_behind_hears_the_latest_of_each_where_it_came():
    async def run() -> bytes:
        latest = Latest()
        latest.put({"step": b"1", "status": b"a"})
        latest.put({"step": b"2"})
        return await piece_of(latest)

    assert asyncio.run(run()) == b"a2"


@given(PUTS)
def test_what_a_reader_hears_at_last_is_the_latest_of_all(puts):
    async def run() -> bytes:
        latest = Latest()
        for news in puts:
            latest.put(news)
        return await piece_of(latest) if puts else b""

    last: dict[str, bytes] = {}
    for news in puts:
        for key, each in news.items():
            last.pop(key, None)
            last[key] = each
    assert asyncio.run(run()) == b"".join(last.values())


def test_news_that_several_readers_share_stays_as_it_is():
    shared = {"job": b"1"}
    one = Latest()
    one.put(shared)
    one.put({"status": b"s"})
    assert shared == {"job": b"1"}


def test_a_reader_for_whom_too_much_waits_is_ended():
    async def run() -> list[bytes]:
        latest = Latest(most=10)
        for number in range(4):
            latest.put({number: b"1234"})
        return await asyncio.wait_for(read(latest), 5)

    assert asyncio.run(run()) == []

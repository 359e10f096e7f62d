"""Answers in pieces and events are what they would be as a whole; room and places are given back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.web.errors import ApiError
from qied_client.web.http import answers
from qied_client.web.http.answers import WithPictures
from qied_client.web.http.bodies import Room
from qied_client.web.http.connections import Places
from qied_client.web.http.events import comment, event

pictures = st.lists(st.binary(max_size=400), max_size=4)


def whole(text: WithPictures) -> bytes:
    async def joined() -> bytes:
        return b"".join([piece async for piece in text.pieces()])

    return asyncio.run(joined())


@given(pictures, st.text(max_size=30), st.sampled_from([3, 96]))
def test_pictures_in_pieces_are_the_same_json(found: list[bytes], note: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_PIECE", piece)
        text = WithPictures(lambda stand_in: json.dumps([note, *map(stand_in, found), note]).encode())
        said = whole(text)
    assert json.loads(said) == [note, *(base64.b64encode(each).decode() for each in found), note]
    assert (text.length, text.size) == (len(said), sum(map(len, found)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), json_values), st.none() | st.integers(0, 10**9))
def test_an_event_is_one_line_of_json_and_a_blank_one(data: dict[str, Any], number: int | None) -> None:
    lines = event("job", data, number).decode().split("\r\n")
    assert lines[-2:] == ["", ""]
    fields = dict(line.split(": ", 1) for line in lines[:-2])
    assert json.loads(fields.pop("data")) == data
    assert fields == {"event": "job"} | ({} if number is None else {"id": str(number)})


@given(st.text(max_size=40))
def test_a_comment_is_no_event(text: str) -> None:
    assert all(line.startswith(":") or not line for line in comment(text).decode().replace("\r", "\n").split("\n"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60))))
def test_room_is_never_more_than_there_is_and_comes_back(steps: list[tuple[str, int]]) -> None:
    room, taken = Room(100), Counter[str]()
    for user, size in steps:
        fits = not taken[user] or (taken[user] + size <= 50 and taken.total() + size <= 100)
        try:
            room.take(user, size)
        except ApiError as error:
            assert not fits and error.status == 503
            room.leave(user, taken.pop(user, 0))
        else:
            assert fits
            taken[user] += size
    for user, size in taken.items():
        room.leave(user, size)
    room.take("x", 50)
    room.take("y", 49)
    room.take("y", 1)
    with pytest.raises(ApiError):
        room.take("y", 1)


def test_room_comes_back_however_a_block_ends() -> None:
    room = Room(100)
    with pytest.raises(ZeroDivisionError), room.taken("a", 50):
        _ = 1 // 0
    with room.taken("a", 50), pytest.raises(ApiError), room.taken("a", 1):
        pytest.fail("there is no room")
    room.take("a", 50)


@pytest.mark.parametrize(
    ("addresses", "count"),
    [
        (["192.0.2.1"] * 30, 10),
        ([f"192.0.2.{n}" for n in range(30)], 20),
        ([f"2001:db8::{n:x}" for n in range(30)], 10),
        ([f"2001:db8:{n:x}::1" for n in range(30)], 20),
        (["::ffff:192.0.2.1", "192.0.2.1"] * 15, 10),
        ([f"fe80::{n:x}%eth0" for n in range(30)], 10),
        (["not an address"] * 30, 10),
    ],
)
def test_one_address_has_half_of_the_places(addresses: list[str], count: int) -> None:
    places = Places(20)
    taken = [address for address in addresses if places.take(address)]
    assert len(taken) == count
    for address in taken:
        places.leave(address)
    assert [places.take(f"198.51.100.{n}") for n in range(21)] == [True] * 20 + [False]

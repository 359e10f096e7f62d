from __future__ import annotations

import io

import pytest
from qied_client.errors import PictureUnreadable
from qied_client.picture_header.bounded_reader import MAX_PIECE, MAX_TOTAL, BoundedReader


def test_it_starts_at_the_beginning_wherever_the_file_stands() -> None:
    file = io.BytesIO(b"abcdef")
    file.seek(4)
    reader = BoundedReader(file)
    assert (reader.size, reader.position, reader.take(3)) == (6, 0, b"abc")


def test_peeking_does_not_move() -> None:
    reader = BoundedReader(io.BytesIO(b"abc"))
    assert reader.peek(2) == b"ab"
    assert reader.peek(9) == b"abc"
    assert reader.take(3) == b"abc"


def test_a_file_that_ends_too_early_is_unreadable() -> None:
    with pytest.raises(PictureUnreadable, match="ends after 3 bytes"):
        BoundedReader(io.BytesIO(b"abc")).take(4)


def test_skipping_by_a_wild_length_ends_at_the_end_and_reads_nothing() -> None:
    reader = BoundedReader(io.BytesIO(b"abc"))
    reader.skip(2**63)
    assert reader.position == 3
    assert reader.peek(1) == b""


def test_it_refuses_to_read_more_than_its_total() -> None:
    reader = BoundedReader(io.BytesIO(bytes(2 * MAX_TOTAL)))
    for _ in range(MAX_TOTAL // MAX_PIECE):
        reader.take(MAX_PIECE)
    with pytest.raises(PictureUnreadable, match="1024 KiB"):
        reader.take(1)

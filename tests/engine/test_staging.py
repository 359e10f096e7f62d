from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qied.engine.copy_ring import CopyRing
from qied.engine.staging import PIECE_BYTES, Staging
from qied.engine.streams import streams_of

Part = tuple[int, int]
"""Where a part begins in the target, and its bytes."""


class Late:
    """The event of a piece that is on its way until it is waited for."""

    def __init__(self) -> None:
        self.waited = 0
        self.recorded = 0

    def record(self) -> None:
        assert self.recorded == self.waited, "a piece was filled while it was on its way"
        self.recorded += 1

    def synchronize(self) -> None:
        self.waited = self.recorded


@st.composite
def parts_of_a_target(draw: st.DrawFn) -> list[Part]:
    """Parts that do not overlap, with and without gaps, in any order."""
    found, end = [], 0
    for gap, length in draw(st.lists(st.tuples(st.sampled_from([0, 0, 1, 50]), st.integers(1, 90)), min_size=1)):
        found.append((end + gap, length))
        end += gap + length
    return draw(st.permutations(found))


def numbered(length: int, seed: int) -> Tensor:
    return torch.randint(1, 255, (length,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@given(parts=parts_of_a_target(), piece=st.integers(1, 64), pieces=st.integers(1, 3), again=st.integers(1, 2))
def test_parts_arrive_where_they_belong_whatever_the_pieces(
    parts: list[Part], piece: int, pieces: int, again: int
) -> None:
    events: list[Late] = []
    staging = Staging(
        [torch.zeros(piece, dtype=torch.uint8) for _ in range(pieces)], lambda: events.append(Late()) or events[-1]
    )
    for round_ in range(again):
        hosts = [(begin, numbered(length, begin + round_)) for begin, length in parts]
        target = torch.zeros(max(begin + length for begin, length in parts) + 7, dtype=torch.uint8)
        staging.copy(target, hosts)
        assert all(torch.equal(target[begin : begin + len(host)], host) for begin, host in hosts)
        assert not target[-7:].any(), "nothing is written behind the last part"
    assert sum(event.recorded for event in events) >= again


def test_a_piece_is_waited_for_before_it_is_filled_again() -> None:
    log: list[str] = []

    class Noted:
        def __init__(self, name: str) -> None:
            self._name = name

        def record(self) -> None:
            log.append(f"{self._name} leaves")

        def synchronize(self) -> None:
            log.append(f"wait for {self._name}")

    names: Iterator[str] = iter("ab")
    staging = Staging([torch.zeros(4, dtype=torch.uint8) for _ in range(2)], lambda: Noted(next(names)))
    staging.copy(torch.zeros(12, dtype=torch.uint8), [(0, numbered(12, 0))])
    staging.copy(torch.zeros(4, dtype=torch.uint8), [(0, numbered(4, 0))])
    expected = [line for name in "abab" for line in (f"wait for {name}", f"{name} leaves")]
    assert log == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_pageable_memory_reaches_a_card_in_pieces_while_it_computes() -> None:
    device = torch.device("cuda")
    nbytes = 5 * PIECE_BYTES + 12345
    streams = streams_of(device)
    ring = CopyRing(device, nbytes, 2, streams)
    load = torch.randn(4096, 4096, device=device)
    for turn in range(6):
        host = numbered(nbytes, turn)
        ticket = ring.load(host)
        expected = host.clone()
        host.zero_()
        for _ in range(4):
            load = (load @ load).clamp(-1, 1)
        assert torch.equal(ring.use(ticket).cpu(), expected)
        ring.done(ticket)
    assert streams._staging is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_pinned_memory_goes_without_staging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied.engine.streams.staging_for", pytest.fail)
    device = torch.device("cuda")
    ring = CopyRing(device, 4096, 1)
    host = torch.full((4096,), 7, dtype=torch.uint8, pin_memory=True)
    assert torch.equal(ring.use(ring.load(host)).cpu(), host)


def test_without_pinned_memory_a_card_copies_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr("qied.engine.streams.staging_for", asked.append)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ring = CopyRing(device, 64, 1)
    for _ in range(2):
        ticket = ring.load(numbered(64, 1))
        assert torch.equal(ring.use(ticket).cpu(), numbered(64, 1))
        ring.done(ticket)
    assert asked == ([device] if device.type == "cuda" else [])

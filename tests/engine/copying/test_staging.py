import gc
from weakref import ref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qied.engine.copying.copy_ring import CopyRing
from qied.engine.copying.staging import PIECE_BYTES, PIECES, Staging, staging_for
from qied.engine.copying.streams import streams_of

Part = tuple[int, int]
"""Where a part begins in the target, and its bytes."""


class OnItsWay:
    """The event of a piece, which may not change from when it is sent until it is waited for."""

    def __init__(self, piece: Tensor) -> None:
        self._piece = piece
        self._sent: Tensor | None = None
        self.waits = 0
        self.sent = 0

    def record(self) -> None:
        assert self._sent is None, "a piece was sent again and nobody waited for it"
        self._sent = self._piece.clone()
        self.sent += 1

    def synchronize(self) -> None:
        assert self._sent is None or torch.equal(self._piece, self._sent), "a piece was filled while on its way"
        self._sent = None
        self.waits += 1


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


@given(parts=parts_of_a_target(), size=st.integers(1, 64), count=st.integers(1, 3), again=st.integers(1, 2))
def test_parts_arrive_where_they_belong_and_no_piece_changes_on_its_way(
    parts: list[Part], size: int, count: int, again: int
) -> None:
    pieces = [torch.zeros(size, dtype=torch.uint8) for _ in range(count)]
    events = [OnItsWay(piece) for piece in pieces]
    staging = Staging(pieces, iter(events).__next__)
    for round_ in range(again):
        hosts = [(begin, numbered(length, begin + round_)) for begin, length in parts]
        target = torch.zeros(max(begin + length for begin, length in parts) + 7, dtype=torch.uint8)
        staging.copy(target, hosts)
        assert all(torch.equal(target[begin : begin + len(host)], host) for begin, host in hosts)
        assert not target[-7:].any(), "nothing is written behind the last part"
    assert sum(event.sent for event in events) == sum(event.waits for event in events) >= again


class Pinned:
    """A buffer that says it is pinned."""

    def __init__(self) -> None:
        self.bytes = torch.zeros(8, dtype=torch.uint8)
        self.pinned = True


def test_pieces_stay_pinned_for_as_long_as_their_staging_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[ref[Pinned]] = []

    def buffers(count: int, *_: object, **__: object) -> list[Pinned]:
        made = [Pinned() for _ in range(count)]
        alive.extend(map(ref, made))
        return made

    monkeypatch.setattr("qied.engine.copying.staging.host_buffers", buffers)
    monkeypatch.setattr("torch.cuda.Event", lambda: OnItsWay(torch.zeros(0)))
    staging = staging_for(torch.device("cuda"))
    gc.collect()
    assert staging is not None and all(buffer() for buffer in alive)
    del staging
    gc.collect()
    assert alive and not any(buffer() for buffer in alive)


def test_pieces_that_may_not_be_pinned_are_no_staging(monkeypatch: pytest.MonkeyPatch) -> None:
    def buffers(count: int, *_: object, **__: object) -> list[Pinned]:
        made = [Pinned() for _ in range(count)]
        made[-1].pinned = False
        return made

    monkeypatch.setattr("qied.engine.copying.staging.host_buffers", buffers)
    assert staging_for(torch.device("cuda")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_pageable_memory_reaches_a_card_in_pieces_while_it_computes() -> None:
    device = torch.device("cuda")
    nbytes = (PIECES + 2) * PIECE_BYTES + 12345
    streams = streams_of(device)
    ring = CopyRing(device, nbytes, 1, streams)
    load = torch.randn(4096, 4096, device=device)
    for turn in range(4):
        host = numbered(nbytes, turn)
        ticket = ring.load(host)
        expected = host.clone()
        host.zero_()
        found = ring.use(ticket).clone()
        # The next copy waits for this in its queue, while the host has more pieces to fill than there are.
        for _ in range(40):
            load = (load @ load).clamp(-1, 1)
        ring.done(ticket)
        ring.done(ring.load(numbered(nbytes, 100 + turn)))
        assert torch.equal(found.cpu(), expected)
    assert streams._staging is not None
    assert all(piece.is_pinned() for piece in streams._staging._pieces)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_pinned_memory_goes_without_staging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied.engine.copying.streams.staging_for", pytest.fail)
    device = torch.device("cuda")
    ring = CopyRing(device, 4096, 1)
    host = torch.full((4096,), 7, dtype=torch.uint8, pin_memory=True)
    assert torch.equal(ring.use(ring.load(host)).cpu(), host)


def test_without_pinned_memory_a_card_copies_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr("qied.engine.copying.streams.staging_for", asked.append)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ring = CopyRing(device, 64, 1)
    for _ in range(2):
        ticket = ring.load(numbered(64, 1))
        assert torch.equal(ring.use(ticket).cpu(), numbered(64, 1))
        ring.done(ticket)
    assert asked == ([device] if device.type == "cuda" else [])

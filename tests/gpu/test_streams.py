"""Copies and computation of a card wait for each other: without it, one would overtake the other here, each time."""

import pytest
import torch
from torch import Tensor

from qied.engine.copying.streams import Streams, streams_of

pytestmark = [pytest.mark.card, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")]
NBYTES = 1 << 16
SPIN = 500_000_000
"""Cycles of the card's clock: a quarter of a second or more, in which a copy of 64 KiB is over thousands of times."""


@pytest.fixture
def streams() -> Streams:
    return streams_of(torch.device("cuda", torch.cuda.current_device()))


@pytest.fixture
def target() -> Tensor:
    """What the card holds at first."""
    held = torch.full((NBYTES,), 1, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    return held


@pytest.fixture(params=["pinned", "pageable"])
def host(request: pytest.FixtureRequest, streams: Streams) -> Tensor:
    """What is to be copied there; the first copy, which may have to pin memory, is over."""
    held = torch.full((NBYTES,), 2, dtype=torch.uint8, pin_memory=request.param == "pinned")
    streams.copy(torch.empty(NBYTES, dtype=torch.uint8, device="cuda"), [(0, held)])
    torch.cuda.synchronize()
    return held


def end_of_a_long_kernel() -> torch.cuda.Event:
    """An event of a queue of its own."""
    other, event = torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(other):
        torch.cuda._sleep(SPIN)
    event.record(other)
    return event


def test_what_is_computed_with_a_copy_waits_until_it_is_there(streams: Streams, target: Tensor, host: Tensor) -> None:
    streams.copies_wait(end_of_a_long_kernel())
    streams.copy(target, [(0, host)])
    copied = streams.event()
    streams.record_copies(copied)
    assert not copied.query(), "the copy is still to come"
    streams.computation_waits(copied)
    seen = target.clone()
    torch.cuda.synchronize()
    assert seen.unique().tolist() == [2]


def test_a_copy_waits_until_what_it_overwrites_has_been_used(streams: Streams, target: Tensor, host: Tensor) -> None:
    used = streams.event()
    torch.cuda._sleep(SPIN)
    seen = target.clone()
    streams.record_computation(used)
    streams.copies_wait(used)
    streams.copy(target, [(0, host)])
    assert not used.query(), "the use is still to come"
    torch.cuda.synchronize()
    assert (seen.unique().tolist(), target.unique().tolist()) == ([1], [2])

from contextlib import nullcontext

import pytest
import torch

from qied.engine.copying.streams import CardStreams

DEVICE = torch.device("cuda", 0)


class Stream:
    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[str] = []

    def wait_event(self, event: "Event") -> None:
        self.log.append(f"waits for {event.recorded_in}")


class Event:
    recorded_in = "nothing"

    def record(self, stream: Stream) -> None:
        self.recorded_in = stream.name


class Cuda:
    """Streams and events that note who waits for whom."""

    Event = Event

    def __init__(self) -> None:
        self.copies, self.computation = Stream("copies"), Stream("computation")

    def Stream(self, device: torch.device) -> Stream:
        assert device == DEVICE
        return self.copies

    def current_stream(self, device: torch.device) -> Stream:
        assert device == DEVICE
        return self.computation

    stream = staticmethod(nullcontext)


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


def test_copies_wait_for_the_computation(cuda: Cuda) -> None:
    streams = CardStreams(DEVICE, cuda)
    used = streams.event()
    streams.record_computation(used)
    streams.copies_wait(used)
    assert (cuda.copies.log, cuda.computation.log) == (["waits for computation"], [])


def test_the_computation_waits_for_copies(cuda: Cuda) -> None:
    streams = CardStreams(DEVICE, cuda)
    copied = streams.event()
    streams.record_copies(copied)
    streams.computation_waits(copied)
    assert (cuda.copies.log, cuda.computation.log) == ([], ["waits for copies"])

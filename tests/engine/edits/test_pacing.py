from __future__ import annotations

import pytest
import torch

from qied.engine.edits.pacing import Meter, Pacer, pacer_of
from qied.link.engine_port import Ended


class Card:
    """A device with a clock of its own: marks are the times at which it gets to them, known once it was waited for.

    ``work`` enqueues milliseconds of work; ``now`` is the host's time. The device begins what it is given at once, or
    when it is done with what it had before.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_until = 0.0
        self.waits: list[float] = []

    def work(self, milliseconds: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + milliseconds

    def mark(self) -> float:
        return max(self.busy_until, self.now)

    def passed(self, mark: float) -> bool:
        return mark <= self.now

    def wait(self, mark: float) -> None:
        self.waits.append(mark)
        self.now = max(self.now, mark)

    def milliseconds(self, first: float, last: float) -> float:
        assert last <= self.now, "a time is known once the device has got there"
        return last - first


@pytest.fixture
def card() -> Card:
    return Card()


@pytest.fixture
def pacer(card: Card) -> Pacer:
    return Pacer(card)


def unit(pacer: Pacer, card: Card, meter: Meter, step: int, *, device: float, host: float = 1.0) -> None:
    """One unit that takes the host and the device so long."""
    with pacer.unit() as unit:
        card.work(device)
        card.now += host
        unit.belongs_to(meter, "denoise", step)


def test_the_host_is_one_unit_ahead_and_the_device_never_runs_dry(card: Card, pacer: Pacer) -> None:
    begun = []
    for step in range(1, 6):
        with pacer.unit() as unit:
            begun.append(card.now)
            card.work(100)
            card.now += 10
            unit.belongs_to(Meter(), "denoise", step)
    assert begun == [0, 10, 100, 200, 300], "the third is begun when the first is over, while the second runs"
    assert card.busy_until == 500, "the device did nothing but work"


def test_a_unit_is_counted_with_what_it_took_once_it_is_known(card: Card, pacer: Pacer) -> None:
    meter, told = Meter(), []
    for step, device in enumerate((100, 30, 70, 50), 1):
        unit(pacer, card, meter, step, device=device)
        told.append([(ended.step, ended.milliseconds) for ended in meter.take()])
    assert told == [[], [], [(1, 100)], [(2, 30)]]
    pacer.finish()
    assert [(ended.step, ended.milliseconds) for ended in meter.take()] == [(3, 70), (4, 50)]


def test_time_without_work_belongs_to_nobody(card: Card, pacer: Pacer) -> None:
    meter = Meter()
    unit(pacer, card, meter, 1, device=20)
    card.now += 10_000
    unit(pacer, card, meter, 2, device=30)
    pacer.finish()
    assert [ended.milliseconds for ended in meter.take()] == [20, 30]


def test_a_host_that_is_slower_than_the_device_counts_with_its_unit_and_never_waits(card: Card, pacer: Pacer) -> None:
    meter = Meter()
    for step in (1, 2, 3):
        with pacer.unit() as unit:
            for _ in range(4):
                card.work(1)
                card.now += 5
            unit.belongs_to(meter, "denoise", step)
    assert card.waits == []
    assert [ended.milliseconds for ended in meter.take()] == [20, 20, 20]


def test_edits_have_their_own_units_and_their_shares_of_common_ones(card: Card, pacer: Pacer) -> None:
    first, second = Meter(), Meter()
    unit(pacer, card, first, 1, device=10)
    with pacer.unit() as shared:
        card.work(80)
        shared.belongs_to(first, "denoise", 2, weight=300)
        shared.belongs_to(second, "denoise", 7, weight=100)
    unit(pacer, card, second, 8, device=5)
    pacer.finish()
    assert first.take() == (Ended("denoise", 1, 10), Ended("denoise", 2, 60))
    assert second.take() == (Ended("denoise", 7, 20), Ended("denoise", 8, 5))


def test_a_unit_that_failed_is_nobodys_and_the_next_ones_are_paced_as_before(card: Card, pacer: Pacer) -> None:
    meter = Meter()
    unit(pacer, card, meter, 1, device=100)
    with pytest.raises(ZeroDivisionError), pacer.unit():
        card.work(50)
        raise ZeroDivisionError
    unit(pacer, card, meter, 2, device=100)
    unit(pacer, card, meter, 3, device=100)
    pacer.finish()
    assert [ended.milliseconds for ended in meter.take()] == [100, 100, 100]


def test_on_the_cpu_every_unit_is_counted_at_its_end() -> None:
    pacer, meter = pacer_of(torch.device("cpu")), Meter()
    for step in (1, 2):
        with pacer.unit() as unit:
            sum(range(1000))
            unit.belongs_to(meter, "denoise", step)
        (ended,) = meter.take()
        assert ended.step == step and ended.milliseconds > 0

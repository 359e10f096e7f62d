from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from qied.engine import engine
from qied.engine.allocator_bound import bound_allocator
from qied.engine.engine import Engine, EngineOptions
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile

GIB = 1 << 30
CARD: dict[str, Any] = {"device": "cuda", "device_index": 1}


class Cards:
    """Two cards of 8 and 24 GiB, and the shares of them that were set."""

    def __init__(self) -> None:
        self.shares: dict[int, float] = {}

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=(8 * GIB, 24 * GIB)[index])

    def set_per_process_memory_fraction(self, fraction: float, index: int) -> None:
        self.shares[index] = fraction


@pytest.mark.parametrize(("allocator_bytes", "share"), [(6 * GIB, 0.25), (24 * GIB, 1.0), (25 * GIB, 1.0)])
def test_torch_may_take_what_the_plan_says_of_the_whole_card(
    execution: Callable[..., Execution], allocator_bytes: int, share: float
) -> None:
    cards = Cards()
    bound_allocator(execution(**CARD, allocator_bytes=allocator_bytes), cards)
    assert cards.shares == {1: share}


@pytest.mark.parametrize("changes", [{**CARD, "allocator_bytes": 0}, {"device": "cpu", "allocator_bytes": 6 * GIB}])
def test_without_a_bound_in_the_plan_and_on_the_cpu_nothing_is_bounded(
    execution: Callable[..., Execution], changes: dict[str, Any]
) -> None:
    cards = Cards()
    bound_allocator(execution(**changes), cards)
    assert cards.shares == {}


def test_an_engine_is_bounded_before_it_loads_anything(
    execution: Callable[..., Execution], profile: ModelProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []

    class Loading(Exception):
        pass

    def load(*_: object) -> None:
        raise Loading

    monkeypatch.setattr(engine, "bound_allocator", happened.append)
    monkeypatch.setattr(engine, "build_models", load)
    planned = execution(**CARD, allocator_bytes=6 * GIB)
    with pytest.raises(Loading):
        Engine.build(None, profile, EngineOptions(execution=planned), lambda *_: None)  # type: ignore[arg-type]
    assert happened == [planned]

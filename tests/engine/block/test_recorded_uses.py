"""A record keeps what its launch used, and a launch without a record keeps nothing."""

import gc
import weakref

from qied.engine.block.graphs import collected_uses, hold


class Plan:
    """Stands in for a plan of a library."""


def test_what_a_recorded_launch_uses_lives_as_long_as_the_record() -> None:
    plan = Plan()
    gone = weakref.ref(plan)
    with collected_uses() as uses:
        hold(plan)
    del plan
    gc.collect()
    assert gone() is not None
    uses.clear()
    gc.collect()
    assert gone() is None


def test_a_launch_that_is_not_recorded_keeps_nothing() -> None:
    with collected_uses() as uses:
        pass
    plan = Plan()
    gone = weakref.ref(plan)
    hold(plan)
    del plan
    gc.collect()
    assert gone() is None and uses == []

"""How much of a worker's budget other programs hold."""

from hypothesis import given
from hypothesis import strategies as st

from qied.planning.plan import Execution
from qied.server.workers.pool import surplus_is_worth_telling, withheld_bytes

GIB = 1024**3
SIZES = st.integers(0, 200 * GIB)


def test_a_card_with_room_withholds_nothing():
    assert withheld_bytes(10 * GIB, own=4 * GIB, free=6 * GIB) == 0
    assert withheld_bytes(10 * GIB, own=4 * GIB, free=60 * GIB) == 0


def test_what_is_missing_to_the_budget_is_withheld():
    assert withheld_bytes(10 * GIB, own=4 * GIB, free=4 * GIB) == 2 * GIB


@given(budget=SIZES, own=SIZES, free=SIZES)
def test_it_is_never_less_than_is_missing_and_never_more_by_more_than_a_step(budget, own, free):
    missing = max(0, budget - own - free)
    assert missing <= withheld_bytes(budget, own, free) < missing + 64 * 1024**2
    assert withheld_bytes(budget, own, free) <= budget


def test_a_surplus_is_told_where_blocks_stream_and_it_is_large():
    def run(resident):
        return Execution("cuda", 0, "fp8", "rowwise", "bf16", 60, resident, 3, "streamed", None, None, True, 0, 1 << 20)

    assert surplus_is_worth_telling(run(30), 3 * GIB)
    assert not surplus_is_worth_telling(run(30), 1 * GIB)
    assert not surplus_is_worth_telling(run(60), 30 * GIB)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qied.scheduling.ledger import ledger_of
from qied.scheduling.model import JobCost, WorkerOffer

COSTS = st.builds(JobCost, st.integers(0, 500), st.integers(0, 500), st.just(1))


def test_states_add_up_and_the_largest_arena_serves_all() -> None:
    ledger = ledger_of(WorkerOffer("gpu0", 1000, 400, 8), [JobCost(10, 200, 1), JobCost(20, 300, 1)])
    assert (ledger.state_bytes, ledger.arena_bytes) == (30, 300)
    assert (ledger.promised_bytes, ledger.free_bytes) == (730, 270)


def test_a_job_fits_to_the_last_byte_and_not_beyond() -> None:
    ledger = ledger_of(WorkerOffer("gpu0", 1000, 400, 8), [JobCost(100, 300, 1)])
    assert ledger.fits(JobCost(200, 300, 1))
    assert not ledger.fits(JobCost(201, 300, 1))
    assert ledger.fits(JobCost(100, 400, 1))
    assert not ledger.fits(JobCost(100, 401, 1))


@given(st.lists(COSTS, max_size=6), COSTS, st.integers(0, 3000))
def test_a_job_fits_exactly_when_the_promise_with_it_is_within_budget(
    costs: list[JobCost], cost: JobCost, budget: int
) -> None:
    offer = WorkerOffer("gpu0", budget, 0, 8)
    assert ledger_of(offer, costs).fits(cost) == (ledger_of(offer, [*costs, cost]).free_bytes >= 0)

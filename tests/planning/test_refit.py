"""A plan on the same card with more or less of its memory."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.refit import refit
from qied.planning.plan import Execution

GB = 10**9
BLOCK = 226_800_000
FIXED_REST, EDITS = 1_500_000_000, 2_000_000_000
Machine = Callable[..., Snapshot]


def run(resident: int, ring: int) -> Execution:
    return Execution(
        "cuda", 0, "fp8", "rowwise", "bf16", 60, resident, ring, "streamed", None, 960, True, 10 * GB, 1 << 20
    )


def fitted(budget: int, resident: int = 30, ring: int = 3):
    return refit(
        run(resident, ring),
        fixed_bytes=FIXED_REST + (resident + ring) * BLOCK,
        edits_bytes=EDITS,
        block_bytes=BLOCK,
        budget_bytes=budget,
        context_bytes=GB,
    )


def test_less_memory_keeps_fewer_blocks_and_more_keeps_more():
    less, more, all_of_them = fitted(8 * GB), fitted(14 * GB), fitted(24 * GB)
    assert less.execution.resident_blocks < 30 < more.execution.resident_blocks < 60
    assert (all_of_them.execution.resident_blocks, all_of_them.execution.ring_slots) == (60, 0)


def test_too_little_for_a_ring_is_nothing():
    assert fitted(4 * GB) is None


@given(budget=st.integers(4 * GB, 40 * GB), resident=st.integers(0, 60))
def test_it_fits_and_changes_nothing_that_an_edit_was_priced_by(budget, resident):
    ring = 0 if resident == 60 else 3
    found = fitted(budget, resident, ring)
    if found is None:
        return
    assert found.fixed_bytes + EDITS <= budget
    before, after = run(resident, ring), found.execution
    for name in ("precision", "scaling", "text_encoder", "encode_tile_px", "decode_tile_px", "max_reference_pixels"):
        assert getattr(after, name) == getattr(before, name)
    assert after.allocator_bytes == budget - GB


def test_the_same_budget_gives_the_same_plan():
    budget = FIXED_REST + 33 * BLOCK + EDITS
    assert fitted(budget).execution.resident_blocks == 30

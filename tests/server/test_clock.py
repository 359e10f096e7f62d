"""The clock of expiry: a wall clock that jumps ahead hurries nothing, and is believed once it has stood for an hour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qied.server.clock import CONFIRMED_S, TOLERANCE_S, ExpiryClock

NOW, YEARS = 1_800_000_000.0, 50 * 365 * 86400.0
# Whole seconds, whose sums are exact: what is compared is the rule, not the rounding of a difference of clocks.
OFFSETS = st.integers(-int(YEARS), int(YEARS)).map(float)
WAITS = st.integers(0, 2 * int(CONFIRMED_S)).map(float)
LOOKS = st.lists(st.tuples(OFFSETS, WAITS), min_size=1, max_size=20)


@given(LOOKS)
def test_what_is_believed_never_runs_ahead_of_a_time_that_was_kept_for_an_hour(
    looks: list[tuple[float, float]],
) -> None:
    clock, monotonic, believed = ExpiryClock(NOW, NOW, 0.0), 0.0, NOW
    for offset, wait in looks:
        first = clock.now(NOW + offset + monotonic, monotonic)
        assert first <= max(believed, NOW + offset + monotonic) + TOLERANCE_S
        if offset + NOW + monotonic > believed + TOLERANCE_S:
            assert first <= believed
        monotonic += wait
        believed = clock.now(NOW + offset + monotonic, monotonic)
        right = NOW + offset + monotonic
        assert believed <= right + TOLERANCE_S
        assert believed == right or (wait < CONFIRMED_S and clock.ahead_s(right, monotonic) > 0)
        monotonic += 1.0
        believed += 1.0


@given(st.floats(-YEARS, YEARS), st.floats(0, YEARS))
def test_a_clock_that_is_right_again_is_believed_at_once(jump: float, uptime: float) -> None:
    clock = ExpiryClock(NOW, NOW, 0.0)
    clock.now(NOW + uptime, uptime)
    before = clock.now(NOW + uptime, uptime)
    clock.now(before + max(jump, 0.0), uptime)
    assert abs(clock.now(before, uptime) - before) < 1e-3
    assert clock.ahead_s(before, uptime) == 0


def test_a_new_time_that_keeps_changing_is_never_believed() -> None:
    clock = ExpiryClock(NOW, NOW, 0.0)
    for look in range(1, 100):
        elapsed = look * CONFIRMED_S * 0.9
        assert clock.now(NOW + elapsed + look * 2 * TOLERANCE_S, elapsed) == NOW + elapsed


def test_a_new_journal_believes_the_clock() -> None:
    assert ExpiryClock(None, NOW, 5.0).now(NOW + 1, 6.0) == NOW + 1

"""A pause of the one who waits is not held against the one who is waited for."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st
from qied_client.awake_time import AwakeTime

MOST = 2_000
GAPS = st.lists(st.integers(0, 50 * MOST), max_size=30)


@given(GAPS, st.integers(0, 10**12))
def test_time_that_is_watched_counts_in_full_and_each_pause_as_one_interval(gaps: list[int], start: int) -> None:
    awake = AwakeTime(MOST, start)
    for moment in accumulate(gaps, initial=start):
        awake.tick(moment)
    assert awake.at(start + sum(gaps)) == sum(min(gap, MOST) for gap in gaps)


@given(GAPS, st.integers(0, 50 * MOST))
def test_looking_at_it_changes_nothing_and_it_never_goes_back(gaps: list[int], later: int) -> None:
    awake, quiet = AwakeTime(MOST, 0), AwakeTime(MOST, 0)
    last = now = 0
    for gap in gaps:
        for moment in (now + gap // 2, now + gap, now - later):
            awake.at(moment)
        now += gap
        assert awake.tick(now) == quiet.tick(now) >= last
        last = awake.tick(now - later)
        assert last == quiet.at(now)


@given(st.integers(1, 100 * MOST), st.integers(MOST, 100 * MOST))
def test_a_watcher_that_is_always_late_still_gets_to_every_limit(limit: int, gap: int) -> None:
    awake = AwakeTime(MOST, 0)
    for tick in range(1, limit // MOST + 2):
        awake.tick(tick * gap)
    assert awake.at(0) >= limit

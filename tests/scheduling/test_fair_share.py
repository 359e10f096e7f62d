from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.scheduling.fair_share import FairShare


def run(share: FairShare, turns: int, milliseconds: int = 10) -> list[str]:
    picked = []
    for _ in range(turns):
        key = share.order()[0]
        share.charge(key, milliseconds)
        picked.append(key)
    return picked


def share_of(*jobs: tuple[str, str, int, bool]) -> FairShare:
    share = FairShare()
    for key, group, weight, preview in jobs:
        share.add(key, group=group, weight=weight, preview=preview)
    return share


def test_without_jobs_nobody_has_a_turn() -> None:
    assert FairShare().order() == []


def test_asking_for_the_order_changes_nothing() -> None:
    share = share_of(("a", "ann", 1, False), ("b", "bob", 1, False))
    assert [share.order()[0] for _ in range(3)] == ["a", "a", "a"]


def test_equal_jobs_take_turns_in_order_of_entry() -> None:
    assert run(share_of(("a", "ann", 1, False), ("b", "bob", 1, False)), 4) == ["a", "b", "a", "b"]


def test_a_user_with_many_jobs_gets_no_more_than_a_user_with_one() -> None:
    share = share_of(*((f"a{i}", "ann", 1, False) for i in range(4)), ("b", "bob", 1, False))
    counts = Counter(run(share, 80))
    assert counts["b"] == 40
    assert [counts[f"a{i}"] for i in range(4)] == [10, 10, 10, 10]


def test_milliseconds_are_shared_and_not_turns() -> None:
    share = share_of(("slow", "ann", 1, False), ("fast", "bob", 1, False))
    spent: Counter[str] = Counter()
    for _ in range(200):
        key = share.order()[0]
        took = 90 if key == "slow" else 10
        share.charge(key, took)
        spent[key] += took
    assert abs(spent["slow"] - spent["fast"]) <= 90


def test_weights_divide_a_users_time() -> None:
    counts = Counter(run(share_of(("a", "ann", 3, False), ("b", "ann", 1, False)), 400))
    assert counts == {"a": 300, "b": 100}


def test_a_preview_goes_before_a_long_job_of_another_user() -> None:
    share = share_of(("long", "ann", 1, False))
    run(share, 5)
    share.add("preview", group="bob", weight=1, preview=True)
    assert run(share, 9) == ["preview"] * 4 + ["long"] + ["preview"] * 3 + ["long"]


def test_previews_take_three_quarters_at_most_while_others_wait() -> None:
    counts = Counter(run(share_of(("p", "ann", 1, True), ("q", "bob", 1, True), ("long", "eve", 1, False)), 400))
    assert counts["long"] == 100


def test_a_user_that_leaves_and_returns_owes_what_it_took() -> None:
    share = share_of(("long", "bob", 1, False))
    spent: Counter[str] = Counter()
    for turn in range(300):
        if turn % 3 == 0:
            share.add(f"short{turn}", group="ann", weight=1, preview=False)
        key = share.order()[0]
        took = 100 if key.startswith("short") else 10
        share.charge(key, took)
        spent[key[:4]] += took
        if key.startswith("short"):
            share.remove(key)
    assert spent["shor"] - spent["long"] <= 100


def test_an_endless_stream_of_one_step_jobs_does_not_starve_an_older_one() -> None:
    share = share_of(("long", "ann", 1, False), ("s0", "ann", 1, False), ("s1", "ann", 1, False))
    picked = []
    for turn in range(2, 100):
        key = share.order()[0]
        share.charge(key, 10)
        picked.append(key)
        if key != "long":
            share.remove(key)
            share.add(f"s{turn}", group="ann", weight=1, preview=False)
    assert picked.count("long") >= 30


def test_a_turn_of_no_measurable_time_counts_as_one_millisecond() -> None:
    assert run(share_of(("a", "ann", 1, False), ("b", "ann", 1, False)), 4, milliseconds=0) == ["a", "b", "a", "b"]


def test_those_that_may_share_a_turn_come_in_the_order_of_their_groups_and_in_it_of_their_time() -> None:
    share = share_of(*((f"a{i}", "ann", 1, False) for i in range(2)), ("b", "bob", 1, False), ("p", "eve", 1, True))
    assert share.order() == ["p"], "a preview is joined by previews only"
    share.charge("p", 30)
    assert share.order() == ["a0", "a1", "b", "p"]
    share.charge("a0", 5)
    assert share.order() == ["b", "a1", "a0", "p"]


def test_a_shared_turn_is_charged_to_each_for_its_own_part() -> None:
    share = share_of(("a", "ann", 1, False), ("b", "bob", 1, False), ("c", "eve", 1, False))
    share.charge_together({"a": 30, "b": 10})
    share.charge("c", 20)
    assert share.order() == ["b", "c", "a"]


def test_a_preview_that_shares_a_turn_of_others_has_its_own_turns_neither_later_nor_more_often_for_that() -> None:
    share = share_of(("long", "ann", 1, False), ("p", "bob", 1, True))
    share.charge("p", 30)
    share.charge_together({"long": 20, "p": 500})
    assert run(share, 4, milliseconds=20) == ["p", "p", "long", "p"]


def test_a_shared_turn_of_others_counts_as_a_whole_for_the_previews() -> None:
    share = share_of(("a", "ann", 1, False), ("b", "bob", 1, False), ("p", "eve", 1, True))
    share.charge("p", 1)
    share.charge_together({"a": 10, "b": 10})
    assert run(share, 6) == ["p"] * 6


def test_a_preemptible_job_has_all_turns_alone_and_a_twentieth_beside_others() -> None:
    share = share_of(("long", "ann", 1, False))
    share.add("night", group="bob", weight=1, preview=False, preemptible=True)
    assert Counter(run(share, 420)) == {"long": 400, "night": 20}
    share.remove("long")
    assert run(share, 3) == ["night"] * 3


def test_an_edit_that_comes_while_only_preemptible_ones_run_has_twenty_of_their_turns_first() -> None:
    share = FairShare()
    share.add("night", group="ann", weight=1, preview=True, preemptible=True)
    run(share, 7)
    share.add("preview", group="ann", weight=1, preview=True)
    assert run(share, 22) == ["preview"] * 21 + ["night"]


def test_preemptible_jobs_share_turns_with_each_other_only() -> None:
    share = share_of(("long", "ann", 1, False))
    for name in ("n0", "n1"):
        share.add(name, group="bob", weight=1, preview=False, preemptible=True)
    assert share.order() == ["long"]
    share.remove("long")
    assert share.order() == ["n0", "n1"]


@given(st.lists(st.integers(1, 100), min_size=60, max_size=60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_preemptible_job_is_not_starved_and_takes_no_more_than_its_share(turns: list[int], preview: bool) -> None:
    share = share_of(("a", "ann", 1, preview), ("b", "bob", 1, False))
    share.add("night", group="eve", weight=1, preview=False, preemptible=True)
    spent: Counter[str] = Counter()
    for took in turns * 4:
        key = share.order()[0]
        share.charge(key, took)
        spent[key] += took
        others = spent["a"] + spent["b"]
        assert spent["night"] <= others / 20 + 2 * max(turns)
        assert spent["night"] >= others / 20 - 2 * max(turns)


def test_an_unknown_job_can_neither_be_charged_nor_removed() -> None:
    with pytest.raises(KeyError):
        FairShare().charge("a", 1)
    share = share_of(("a", "ann", 1, False))
    with pytest.raises(KeyError):
        share.charge_together({"a": 1, "b": 1})
    assert share._others.groups.virtual == {"ann": 0}, "nobody is charged for a turn that was none"
    with pytest.raises(KeyError):
        FairShare().charge_together({"a": 1})
    with pytest.raises(KeyError):
        FairShare().remove("a")


class Waits:
    """Measures each job's wait and knows the bound that the class promises for it."""

    def __init__(self) -> None:
        self.share = FairShare()
        self.jobs: dict[str, tuple[str, int, bool]] = {}
        self.lowest: dict[str, int] = {}
        self.wait: dict[str, int] = {}
        self.rivals: dict[str, list[int]] = {}
        self.groups: dict[str, set[str]] = {}
        self.quantum = 1

    def add(self, key: str, group: str, weight: int, preview: bool) -> None:
        self.share.add(key, group=group, weight=weight, preview=preview)
        self.jobs[key] = group, weight, preview
        if not preview:
            self.lowest[group] = min(weight, self.lowest.get(group, weight))
            for groups in self.groups.values():
                groups.add(group)
            self.begin(key)

    def remove(self, key: str) -> None:
        self.share.remove(key)
        group, _, preview = self.jobs.pop(key)
        self.wait.pop(key, None)
        self.groups.pop(key, None)
        if not preview and all(other != group or is_preview for other, _, is_preview in self.jobs.values()):
            del self.lowest[group]

    def begin(self, key: str) -> None:
        others = {name: job for name, job in self.jobs.items() if not job[2]}
        self.wait[key] = 0
        self.groups[key] = {group for group, _, _ in others.values()}
        self.rivals[key] = [w for name, (group, w, _) in others.items() if group == self.jobs[key][0] and name != key]

    def turn(self, *milliseconds: int) -> None:
        """A turn of the first so many jobs that may share it, each of which takes its milliseconds."""
        order = self.share.order()
        assert bool(order) == bool(self.jobs)
        assert not order or len(order) == len(self.jobs) or all(self.jobs[key][2] for key in order)
        spent = dict(zip(order, milliseconds, strict=False))
        if not spent:
            return
        self.share.charge_together(spent)
        self.quantum = max(self.quantum, sum(spent.values()))
        for name in self.wait:
            self.wait[name] += sum(spent.values())
        for key in spent:
            if not self.jobs[key][2]:
                self.begin(key)
        for name, wait in self.wait.items():
            assert wait <= self.bound(name), (name, wait, self.bound(name))

    def bound(self, key: str) -> float:
        low = self.lowest[self.jobs[key][0]]
        own = sum(self.quantum * (1 + weight / low) for weight in self.rivals[key])
        groups = len(self.groups[key])
        return 4 * (groups * own + 2 * (groups - 1) * self.quantum) + 4 * self.quantum


PARTS = st.lists(st.integers(1, 100), min_size=1, max_size=4)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("remove"), st.integers(0, 20)),
        st.tuples(st.just("turns"), st.lists(PARTS, min_size=1, max_size=30)),
    ),
    max_size=40,
)


@given(OPERATIONS)
@settings(max_examples=300, deadline=None)
def test_no_job_waits_longer_than_the_stated_bound(operations: list[tuple]) -> None:  # type: ignore[type-arg]
    waits = Waits()
    for number, (kind, *values) in enumerate(operations):
        if kind == "add":
            waits.add(f"job{number}", *values)
        elif kind == "remove" and waits.jobs:
            waits.remove(sorted(waits.jobs)[values[0] % len(waits.jobs)])
        elif kind == "turns":
            for parts in values[0]:
                waits.turn(*parts)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=3, max_size=6),
    st.lists(st.integers(1, 100), max_size=6),
    st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_sharing_turns_keeps_nobody_waiting_longer_however_little_the_first_of_a_turn_takes(
    jobs: list[tuple[str, int]], turns: list[int], victim: int
) -> None:
    waits = Waits()
    for number, (group, weight) in enumerate(jobs):
        waits.add(f"job{number}", group, weight, False)
    for milliseconds in turns:
        waits.turn(milliseconds)
    waits.quantum = 100
    for _ in range(200):
        ahead = waits.share.order().index(f"job{victim % len(jobs)}")
        waits.turn(1, *[99 // max(1, ahead - 1)] * (ahead - 1))


@given(st.integers(1, 3), st.integers(1, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_with_equal_weights_the_bound_is_the_short_formula(groups: int, jobs: int, data: st.DataObject) -> None:
    waits = Waits()
    for group in "abc"[:groups]:
        for number in range(jobs):
            waits.add(f"{group}{number}", group, 1, False)
    waits.add("preview", "a", 1, True)
    waits.quantum = 50
    assert {waits.bound(key) for key in waits.wait if key[1:] == str(jobs - 1) and key[0] == "abc"[groups - 1]} == {
        (8 * groups * jobs - 4) * 50
    }
    for milliseconds in data.draw(st.lists(st.integers(1, 50), max_size=100)):
        waits.turn(milliseconds)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 100)), max_size=60), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_a_preview_alone_in_its_lane_waits_at_most_two_quanta(turns: list[tuple[int, int]], others: int) -> None:
    share = share_of(("p", "ann", 1, True), *((f"o{i}", "bob", 1, False) for i in range(others)))
    quantum, wait = 1, 0
    for preview_ms, other_ms in turns:
        key = share.order()[0]
        took = preview_ms if key == "p" else other_ms
        share.charge(key, took)
        quantum = max(quantum, took)
        wait = 0 if key == "p" else wait + took
        assert wait <= 2 * quantum

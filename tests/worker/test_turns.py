"""Whose picture is decoded next."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qied.worker.turns import OVERTAKES, Turns

CAPACITY = 10


class Decoding(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(CAPACITY)
        self.asked: dict[int, tuple[str, int]] = {}
        self.going: dict[int, tuple[str, int]] = {}
        self.passed: dict[int, int] = {}
        self.count = 0

    @rule(user=st.sampled_from("abcd"), size=st.integers(1, 2 * CAPACITY))
    def ask(self, user: str, size: int) -> None:
        self.count += 1
        self.asked[self.count] = (user, min(size, CAPACITY))
        self.turns.ask(self.count, user, size)
        self.admit()

    @precondition(lambda self: self.asked or self.going)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted([*self.asked, *self.going])))
        self.asked.pop(name, None)
        self.going.pop(name, None)
        self.turns.leave(name)
        self.admit()

    def admit(self) -> None:
        for name in self.turns.admit():
            assert isinstance(name, int)
            self.going[name] = self.asked.pop(name)
            self.passed.pop(name, None)

    @invariant()
    def one_of_each_user_and_within_the_capacity(self) -> None:
        users = [user for user, _ in self.going.values()]
        assert len(users) == len(set(users))
        assert sum(size for _, size in self.going.values()) <= CAPACITY

    @invariant()
    def nobody_waits_where_all_is_free(self) -> None:
        assert self.going or not self.asked

    def teardown(self) -> None:
        """Everybody comes to their turn."""
        while self.going:
            self.leave_first()
        assert not self.asked

    def leave_first(self) -> None:
        name = min(self.going)
        del self.going[name]
        self.turns.leave(name)
        self.admit()


TestDecoding = Decoding.TestCase
TestDecoding.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_user_with_many_pictures_has_one_turn_and_then_the_others_have_theirs() -> None:
    turns = Turns(2)
    for name in range(5):
        turns.ask(("mallory", name), "mallory", 1)
    assert turns.admit() == [("mallory", 0)]
    for user in ("anna", "bob"):
        turns.ask((user, 0), user, 1)
    assert turns.admit() == [("anna", 0)]
    turns.leave(("mallory", 0))
    assert turns.admit() == [("bob", 0)]


def test_a_large_picture_is_overtaken_by_small_ones_only_so_often() -> None:
    turns = Turns(10)
    turns.ask("first", "anna", 6)
    assert turns.admit() == ["first"]
    turns.ask("large", "bob", 10)
    for name in range(OVERTAKES + 1):
        turns.ask(name, f"user {name}", 1)
        admitted = turns.admit()
        assert admitted == ([name] if name < OVERTAKES else [])
        turns.leave(name) if admitted else None
    turns.leave("first")
    assert turns.admit() == ["large"]

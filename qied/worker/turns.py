"""Whose picture is decoded next: one of each user at a time, within a capacity that they share. Pure.

Those who wait are admitted in the order of their users' last turns, and of their coming. One that is too large for what
is free now is overtaken by smaller ones, but at most ``OVERTAKES`` times: then no other is admitted before it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

OVERTAKES: Final = 8


@dataclass
class _Turn:
    user: str
    size: int
    overtaken: int = 0


class Turns:
    """Those who wait for a part of ``capacity``, and those who have one, by names that are theirs alone."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._waiting: dict[Hashable, _Turn] = {}
        self._admitted: dict[Hashable, _Turn] = {}
        self._last: dict[str, int] = {}
        self._count = 0

    def ask(self, name: Hashable, user: str, size: int) -> None:
        """Wait for ``size`` of the capacity; what is larger than all of it waits until all others are gone."""
        self._waiting[name] = _Turn(user, min(size, self.capacity))

    def leave(self, name: Hashable) -> None:
        """Give a turn back, or wait for it no longer."""
        left = self._waiting.pop(name, None) or self._admitted.pop(name, None)
        users = {turn.user for turn in (*self._waiting.values(), *self._admitted.values())}
        if left is not None and left.user not in users:
            self._last.pop(left.user, None)

    def admit(self) -> list[Hashable]:
        """Return who may go on now: each name once."""
        admitted: list[Hashable] = []
        while (name := self._next()) is not None:
            turn = self._admitted[name] = self._waiting.pop(name)
            self._count += 1
            self._last[turn.user] = self._count
            admitted.append(name)
        return admitted

    def _next(self) -> Hashable | None:
        busy = {turn.user for turn in self._admitted.values()}
        free = self.capacity - sum(turn.size for turn in self._admitted.values())
        passed: list[_Turn] = []
        for name, turn in sorted(self._waiting.items(), key=lambda item: self._last.get(item[1].user, 0)):
            if turn.user in busy:
                continue
            if turn.size <= free:
                for other in passed:
                    other.overtaken += 1
                return name
            if turn.overtaken >= OVERTAKES:
                return None
            passed.append(turn)
        return None

"""How often a line may be logged that a client can cause: a few at once, then one now and then with a count."""

from __future__ import annotations

from dataclasses import dataclass, field

AT_ONCE = 5
EVERY_MS = 10_000


@dataclass
class _Spent:
    lines: float = 0.0
    at_ms: int = 0
    left_out: int = 0


@dataclass
class LogBudget:
    """A budget for each name, such as a user's; time comes with each call (milliseconds)."""

    _spent: dict[str, _Spent] = field(default_factory=dict)

    def take(self, name: str, now_ms: int) -> int | None:
        """Whether one more line may be logged: None, or how many were left out since the last one."""
        spent = self._spent.get(name)
        if spent is None:
            spent = self._spent[name] = _Spent(at_ms=now_ms)
        spent.lines = max(0.0, spent.lines - (now_ms - spent.at_ms) / EVERY_MS)
        spent.at_ms = now_ms
        if spent.lines > AT_ONCE - 1:
            spent.left_out += 1
            return None
        spent.lines += 1.0
        left_out, spent.left_out = spent.left_out, 0
        return left_out

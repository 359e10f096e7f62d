"""Of lines that a client causes, a few are logged, and how many were left out."""

from __future__ import annotations

from qied.server.log_budget import AT_ONCE, EVERY_MS, LogBudget


def test_a_flood_is_logged_as_a_few_lines_and_a_count() -> None:
    budget = LogBudget()
    first = [budget.take("ann", 0) for _ in range(1000)]
    assert first == [0] * AT_ONCE + [None] * (1000 - AT_ONCE)
    assert budget.take("bob", 0) == 0
    assert budget.take("ann", EVERY_MS) == 1000 - AT_ONCE
    assert budget.take("ann", EVERY_MS) is None
    assert budget.take("ann", 100 * EVERY_MS) == 1

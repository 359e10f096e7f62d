"""How the doctor writes lists and remedies."""

from __future__ import annotations

from collections.abc import Sequence

from qied.planning.plan import Plan

_PRECISIONS = {
    "fp8": "FP8",
    "int8": "INT8",
    "fp8-storage": "FP8 storage",
    "bf16": "BF16",
    "fp32": "FP32",
    "cpu": "the CPU",
}


def some(names: Sequence[str], most: int = 3) -> str:
    """A list that stays short: ``a, b, c and 4 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def until_then(remedy: str, plan: Plan | None) -> str:
    """A remedy, with what the plan uses as long as it is not followed."""
    return f"{remedy}." if plan is None else f"{remedy}; until then {_PRECISIONS[plan.precision]} is used."

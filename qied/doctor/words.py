"""How the doctor writes sizes, speeds and lists."""

from __future__ import annotations

from collections.abc import Sequence

from qied.planning.plan import Plan

_PRECISIONS = {"fp8": "FP8", "fp8-storage": "FP8 storage", "bf16": "BF16", "fp32": "FP32", "cpu": "the CPU"}
_UNITS = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def size(count: int) -> str:
    """Bytes for people: ``11.6 GiB``."""
    for unit, factor in _UNITS:
        if count >= factor:
            amount = count / factor
            return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.1f} {unit}"
    return f"{count} bytes"


def rate(bytes_per_s: float) -> str:
    """A transfer's speed in the decimal units that link speeds are given in: ``25.0 GB/s``."""
    return f"{bytes_per_s / 1e9:.1f} GB/s"


def some(names: Sequence[str], most: int = 3) -> str:
    """A list that stays short: ``a, b, c and 4 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def until_then(remedy: str, plan: Plan | None) -> str:
    """A remedy, with what the plan uses as long as it is not followed."""
    return f"{remedy}." if plan is None else f"{remedy}; until then {_PRECISIONS[plan.precision]} is used."

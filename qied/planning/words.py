"""Sizes and versions as text in messages."""

from __future__ import annotations

import math

GIB = 1024**3


def gib(size: int) -> str:
    """Bytes such as ``11.5 GiB``."""
    return f"{size / GIB:.1f} GiB"


def at_least_gib(size: int) -> str:
    """Bytes rounded up, such as ``0.1 GiB``."""
    return f"{math.ceil(10 * size / GIB) / 10:.1f} GiB"


def size_text(size: int) -> str:
    """Bytes in GiB, and small ones in KiB."""
    return gib(size) if size >= GIB else f"{size // 1024} KiB"


def dotted(capability: tuple[int, int]) -> str:
    """A compute capability such as ``8.9``."""
    return f"{capability[0]}.{capability[1]}"

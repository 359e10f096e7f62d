"""Sizes and counts as text, for the messages and tables of client and daemon."""

from __future__ import annotations

import math

GIB = 1024**3
MIB = 1024**2

_BINARY = (("TiB", 1024**4), ("GiB", GIB), ("MiB", 1024**2), ("KiB", 1024))
_DECIMAL = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 tensor``, ``3 tensors``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(count: int) -> str:
    """Bytes in binary units, in which memory is counted: ``11.6 GiB``, ``64 KiB``."""
    for unit, factor in _BINARY:
        if count >= factor:
            amount = count / factor
            return f"{amount:.0f} {unit}" if amount >= 100 or unit == "KiB" else f"{amount:.1f} {unit}"
    return f"{count} bytes"


def gib(count: int) -> str:
    """Bytes in GiB, however few they are: ``11.6 GiB``."""
    return f"{count / GIB:.1f} GiB"


def at_least_gib(count: int) -> str:
    """Bytes in GiB, rounded up: ``0.1 GiB``."""
    return f"{math.ceil(10 * count / GIB) / 10:.1f} GiB"


def column_size(count: int) -> str:
    """Bytes in a column of a table of memory: ``11.57 GiB``, ``0.5 MiB``, ``0``."""
    if count == 0:
        return "0"
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 1024**2:.1f} MiB"


def file_size(count: int) -> str:
    """Bytes in decimal units, in which files and disks are counted: ``9.97 GB``, ``128 kB``."""
    for unit, factor in _DECIMAL:
        if count >= factor:
            amount = count / factor
            return f"{amount:,.{0 if amount >= 100 else 1 if amount >= 10 else 2}f} {unit}"
    return f"{count} bytes"


def rate_text(bytes_per_s: float) -> str:
    """The speed of a transfer, in the decimal units that link speeds are given in: ``25.0 GB/s``."""
    return f"{bytes_per_s / 1e9:.1f} GB/s"

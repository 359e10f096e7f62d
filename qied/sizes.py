"""Sizes in bytes as people write them: ``12GB`` is 12 x 10^9, ``8GiB`` is 8 x 2^30, as with disks and ``ls``."""

from __future__ import annotations

import re

EXAMPLES = "8GB, 11.5GiB or 512 MiB"

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_FORM = re.compile(r"\s*(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?P<unit>[kmgt]?i?)b?\s*", re.IGNORECASE | re.ASCII)


def read_size(text: str) -> int:
    """Bytes of a size; a number without a unit is bytes. Raises ValueError that says how to write it."""
    found = _FORM.fullmatch(text)
    unit = None if found is None else _UNITS.get(found["unit"].lower())
    if found is None or unit is None:
        raise ValueError(f"{text!r} is not a size; write it as {EXAMPLES}")
    whole, _, part = found["number"].partition(".")
    return int(whole) * unit + int(part or 0) * unit // int(10 ** len(part))

"""Recognises a Lightning LoRA, distilled to a few steps, by its file's name or its metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from qied.planning.profiles.model_names import model_named

_LIGHTNING: Final = re.compile(r"lightning|lightx2v", re.IGNORECASE)
_COUNTED: Final = re.compile(
    r"(?<![\d.])(\d{1,2})[-_ ]?(?:steps?(?![a-z])|步)|(?<![a-z])steps?[-_ ]?(\d{1,2})(?!\d)", re.IGNORECASE | re.ASCII
)
_MOST_STEPS: Final = 16
"""Of a distilled LoRA: a name with more steps speaks of something else."""
_TITLES: Final = ("modelspec.title", "ss_output_name", "name")
_STEPS: Final = "lightning_steps"
_MOST_CHARS: Final = 300


def named_version(file: str, metadata: Mapping[str, str]) -> str | None:
    """The model that a file is named for, by its name or title, such as 2509 or 2511; None for none."""
    texts = (file.rpartition("/")[2], *(metadata.get(title, "") for title in _TITLES))
    return next((found for text in texts if (found := model_named(text[:_MOST_CHARS])) is not None), None)


def lightning_steps(file: str, metadata: Mapping[str, str]) -> int | None:
    """Steps that a Lightning LoRA was distilled to; None for another LoRA.

    ``lightning_steps`` in the header's texts says it outright; else the file's name, or a title in the header, has
    "lightning" and "4steps" (or 4-steps, 8step, steps_4, ...) in it, in any order.
    """
    said = metadata.get(_STEPS, "")
    if said.isascii() and said.isdigit() and 0 < int(said[:3]) < 100:
        return int(said[:3])
    for text in (file.rpartition("/")[2], *(metadata.get(title, "") for title in _TITLES)):
        found = _COUNTED.search(text[:_MOST_CHARS]) if _LIGHTNING.search(text[:_MOST_CHARS]) else None
        if found is not None and 0 < (steps := int(found[1] or found[2])) <= _MOST_STEPS:
            return steps
    return None

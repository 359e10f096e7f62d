"""What a mask marks: white is edited, black stays."""

from __future__ import annotations

from typing import Final

from PIL import Image

WHITE: Final = 128
"""Grey from here up counts as white."""
EMPTY_MASK: Final = (
    "The mask marks nothing to edit, so the whole picture stays as it is. White marks the part to edit. "
    "In masks of OpenAI's kind, transparency marks it instead: paint that part white and the rest black."
)


def marks_nothing(mask: Image.Image) -> bool:
    """Whether no pixel of a mask ("L", at the size of the result) is to be edited."""
    levels = mask.histogram()
    return not any(levels[WHITE:])

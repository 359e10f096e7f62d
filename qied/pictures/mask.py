"""What a mask marks, by the conventions that programs have, and what is told where the file alone cannot say it."""

from __future__ import annotations

from typing import Final

from PIL import Image
from qied_client.errors import InvalidRequest
from qied_client.pixels.opacity import Guess

from qied.edit import MaskMode

WHITE: Final = 128
"""Grey from here up counts as white."""

Edges = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""
GUESSES: Final[tuple[Guess, ...]] = ("", "painted", "hole", "colours")
"""How a mask was read that could mean several things; by its place as one byte of a decoder's answer."""
_TOLD: Final[dict[Guess, str]] = {
    "painted": (
        "The mask was read as painted on a clear canvas: its opaque part is edited. If its transparent part should be, "
        "set mask_mode='transparent'; to silence this, set mask_mode='opaque'."
    ),
    "hole": (
        "The mask was read as a picture with a hole: its transparent part is edited. If its white part should be, set "
        "mask_mode='white'; to silence this, set mask_mode='transparent'."
    ),
    "colours": (
        "The mask has colours, as a photo has, and was read by its brightness: what is light is edited. Paint the part "
        "to edit white and the rest black; to silence this, set mask_mode='white'."
    ),
}
_MEANT: Final[dict[MaskMode, tuple[str, str]]] = {
    "transparent": ("Its transparent part marks what to edit, and", "is opaque enough to be kept"),
    "opaque": ("Its opaque part marks what to edit, and", "is transparent enough to be kept"),
}


def told(guess: Guess) -> tuple[str, ...]:
    """The warning about a mask that was read as ``guess``; none where nothing was guessed."""
    return (_TOLD[guess],) if guess else ()


def marked_box(mask: Image.Image, box: Edges, mode: MaskMode, guess: Guess = "") -> Edges:
    """The smallest box around what a mask ("L", at the size of its picture) marks within ``box``.

    Raises InvalidRequest where that is nothing.
    """
    check_marks(mask, mode, guess)
    left, top, right, bottom = box
    within = mask.crop(box).point([0] * WHITE + [255] * (256 - WHITE)).getbbox()
    if within is None:
        raise InvalidRequest(
            f"redraw: the mask marks nothing in the box from {left}, {top} to {right}, {bottom}.",
            "Leave out the box, or paint in it.",
            field="redraw",
        )
    return left + within[0], top + within[1], left + within[2], top + within[3]


def check_marks(mask: Image.Image, mode: MaskMode, guess: Guess = "") -> None:
    """Raise InvalidRequest where no pixel of a mask ("L", at the size of the result) is to be edited."""
    levels = mask.histogram()
    if any(levels[WHITE:]):
        return
    brightest = max(level for level, count in enumerate(levels) if count)
    read: MaskMode = {"painted": "opaque", "hole": "transparent"}.get(guess, mode)  # type: ignore[assignment]
    if read in _MEANT:
        part, kept = _MEANT[read]
        raise InvalidRequest(
            f"mask: it marks nothing to edit. {part} all of it {kept}.",
            "If its white part marks what to edit, set mask_mode='white'; if another one does, set that mode.",
            field="mask",
        )
    raise InvalidRequest(
        f"mask: it marks nothing to edit. Its white part marks what to edit, and its brightest pixel is {brightest} of "
        f"255; from {WHITE} up counts as white.",
        "Paint the part to edit white (255) and the rest black; if transparency marks it, set mask_mode='transparent'.",
        field="mask",
    )

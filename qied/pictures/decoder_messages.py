"""What a worker and a process that decodes for it say to each other: lengths, JSON and raw bytes, nothing to unpickle.

A request is the lengths of a JSON object and of a file, then both. An answer is one byte: 0, then one for what a mask
was taken for, and the pixels of each view in order, whose number follows from the request; or 1, and an error as JSON
after its length.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any, Final

from qied_client.errors import PictureError, PictureTooCostly, PictureTooLarge, PictureUnreadable, UnsupportedPicture

from qied.edit import MaskMode
from qied.planning.edits.view import View

REQUEST: Final = struct.Struct(">IQ")
LENGTH: Final = struct.Struct(">I")
DECODED: Final = b"\0"
REFUSED: Final = b"\1"
MAX_ERROR: Final = 64 * 1024
_BYTES: Final = {"L": 1, "RGB": 3, "F": 4}
_COLOURS: Final = 3
_ERRORS: Final = {
    error.code: error for error in (PictureTooLarge, PictureTooCostly, PictureUnreadable, UnsupportedPicture)
}


@dataclass(frozen=True)
class DecodeOrder:
    """What is wanted of a file: ``views`` of the picture, or of a mask that marks in this way, within limits.

    ``max_pixels`` bounds the picture, ``memory_bytes`` what decoding adds to the process, ``cpu_s`` its seconds of
    processor time.
    """

    views: tuple[View, ...]
    mask: MaskMode | None
    max_pixels: int
    memory_bytes: int
    cpu_s: float

    def mode(self, view: View) -> str:
        """Pillow's mode of a view."""
        if view.filter == "area":
            return "F"
        return "L" if self.mask or view.filter == "opacity" else "RGB"

    def size(self, view: View) -> tuple[int, int]:
        """Width and height of a view as Pillow has it."""
        return (view.width * _COLOURS if view.filter == "area" else view.width), view.height

    @property
    def sizes(self) -> list[int]:
        """Bytes of each view."""
        return [self.size(view)[0] * view.height * _BYTES[self.mode(view)] for view in self.views]

    def to_json(self) -> bytes:
        """The order as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DecodeOrder:
        """Read it back."""
        fields = json.loads(data)
        return cls(**{**fields, "views": tuple(_view(**view) for view in fields["views"])})


def _view(box: list[float] | None, scaled: list[int] | None, **fields: Any) -> View:
    left, top, right, bottom = box or (0.0, 0.0, 0.0, 0.0)
    width, height = scaled or (0, 0)
    return View(
        **fields,
        box=None if box is None else (left, top, right, bottom),
        scaled=None if scaled is None else (width, height),
    )


def too_costly(limit: str) -> PictureTooCostly:
    """That decoding a picture exceeded a limit, such as ``30 s``."""
    return PictureTooCostly(f"Decoding the picture takes more than {limit}.", "Save the picture again as PNG.")


def error_to_json(error: PictureError) -> bytes:
    """An error for the worker."""
    fields = {"code": error.code, "message": error.message[:500], "remedy": error.remedy[:500]}
    return json.dumps({**fields, "details": error.details}).encode()


def error_from_json(data: bytes) -> PictureError:
    """Read it back; anything else is taken for an unreadable picture, since the process may be in a file's hands."""
    try:
        fields = json.loads(data)
        error: PictureError = _ERRORS[fields["code"]](
            str(fields["message"]), str(fields["remedy"]), **fields["details"]
        )
    except (ValueError, KeyError, TypeError):
        return PictureUnreadable("The picture cannot be decoded.", "Save the picture again as PNG.")
    return error

"""What the gateway and its child say to each other: lengths, JSON and files, nothing to unpickle.

A request is a JSON object after its length, which says what to do and how long the files behind it are. An answer is
one byte: 0, the length of a file, and the file; or 1, the length of an error as JSON, and that.
"""

from __future__ import annotations

import json
import struct
from typing import BinaryIO, Final

from qied_client.errors import (
    InvalidRequest,
    PictureTooCostly,
    PictureTooLarge,
    PictureUnreadable,
    QiedError,
    UnsupportedPicture,
)

LENGTH: Final = struct.Struct(">Q")
DONE: Final = b"\0"
REFUSED: Final = b"\1"
ANSWER_BYTES: Final = 512 * 1024 * 1024
"""Most bytes of an answer."""
_KINDS: Final = {
    kind.code: kind
    for kind in (PictureTooLarge, PictureTooCostly, PictureUnreadable, UnsupportedPicture, InvalidRequest)
}


class Ended(Exception):
    """The other side has ended."""


def read(source: BinaryIO, count: int) -> bytes:
    """So many bytes; raises Ended where fewer come."""
    pieces = bytearray()
    while len(pieces) < count:
        piece = source.read(min(count - len(pieces), 1 << 20))
        if not piece:
            raise Ended
        pieces += piece
    return bytes(pieces)


def error_to_json(error: QiedError) -> bytes:
    """An error for the gateway."""
    return json.dumps({"code": error.code, "message": error.message[:500], "remedy": error.remedy[:500]}).encode()


def error_from_json(data: bytes) -> QiedError:
    """Read it back; anything else is taken for an unreadable picture, since the process may be in a file's hands."""
    try:
        fields = json.loads(data)
        return _KINDS[fields["code"]](str(fields["message"]), str(fields["remedy"]))
    except (ValueError, KeyError, TypeError):
        return PictureUnreadable("The picture cannot be decoded.", "Save the picture again as PNG.")


def too_costly(limit: str) -> PictureTooCostly:
    """That work on a picture exceeded a limit, such as ``30 s``."""
    return PictureTooCostly(f"Work on the picture takes more than {limit}.", "Scale it down, or save it as PNG.")

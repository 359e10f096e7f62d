"""Files that are neither safetensors nor GGUF, by their first bytes: each is refused by name, with what to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INSTEAD: Final = "Use the model in BF16 or FP8, or as GGUF: qied pull qwen-image-edit-2511."
_PICKLES: Final = (".pt", ".pth", ".ckpt", ".bin")
_PICKLE_REMEDY: Final = f"Reading a pickle can run any program, so qied reads none. {INSTEAD}"


@dataclass(frozen=True)
class ForeignKind:
    """``what`` such a file is, as a clause, and what to do."""

    what: str
    remedy: str


_LOGIN: Final = "some sites require a login, or consent to a licence, first."
_PAGE: Final = ForeignKind("it is a web page", f"Download the file itself: {_LOGIN}")
_TEXT: Final = ForeignKind(
    "it is text, not weights: perhaps a page that a site sent instead of the file",
    f"Open it to see, and download the file again: {_LOGIN}",
)
_ARCHIVE: Final = ForeignKind("it is a compressed archive", "Unpack it, and name the file that was in it.")
_BEGINNINGS: Final = (
    (b"PK\x03\x04", ForeignKind("it is a pickle (a PyTorch archive)", _PICKLE_REMEDY)),
    (b"version ", ForeignKind("it is a Git LFS pointer, not the file", "Run git lfs pull, or download it again.")),
    *((start, _ARCHIVE) for start in (b"7z\xbc\xaf", b"Rar!\x1a", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")),
)
_ARCHIVES: Final = (".zip", ".gz", ".tgz")
_GZIP: Final = b"\x1f\x8b\x08"
_PAGES: Final = (b"<!doc", b"<html", b"<head")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PRINTABLE: Final = frozenset((*b"\t\n\r", *range(32, 127)))
_PICKLE_OPCODE: Final = 0x80
_PICKLE_PROTOCOLS: Final = range(2, 6)


def foreign_kind(name: str, start: bytes) -> ForeignKind | None:
    """What a file with these first 8 bytes is, if it is neither safetensors nor GGUF; None if it may be one."""
    if not start:
        return ForeignKind("it is empty", "Download the file again.")
    # A header's length may begin as gzip does; with a time in it, it would be beyond all limits.
    if name.lower().endswith(_ARCHIVES) or (start.startswith(_GZIP) and any(start[4:])):
        return _ARCHIVE
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    # A header of 2 to 5 times 256 plus 128 bytes begins alike, and a pickle's name says what it is.
    is_pickle = len(start) > 1 and start[0] == _PICKLE_OPCODE and start[1] in _PICKLE_PROTOCOLS
    if is_pickle and (name.endswith(_PICKLES) or any(start[4:])):
        return ForeignKind("it is a pickle", _PICKLE_REMEDY)
    return _text(start)


def _text(start: bytes) -> ForeignKind | None:
    """What a file is that begins with text: as the length of a header it would be more than there is in the world."""
    text = start.removeprefix(_BYTE_ORDER_MARK)
    if not all(byte in _PRINTABLE for byte in text):
        return None
    return _PAGE if text.lstrip().lower().startswith(_PAGES) else _TEXT

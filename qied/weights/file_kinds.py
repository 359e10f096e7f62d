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


_BEGINNINGS: Final = (
    (b"PK\x03\x04", ForeignKind("it is a pickle (a PyTorch archive)", _PICKLE_REMEDY)),
    (b"version ", ForeignKind("it is a Git LFS pointer, not the file", "Run git lfs pull, or download it again.")),
    (b"<!DOCTYP", ForeignKind("it is a web page", "Download the file itself: some sites require a login first.")),
    (b"<!doctyp", ForeignKind("it is a web page", "Download the file itself: some sites require a login first.")),
    (b"<html", ForeignKind("it is a web page", "Download the file itself: some sites require a login first.")),
)
_PICKLE_OPCODE: Final = 0x80
_PICKLE_PROTOCOLS: Final = range(2, 6)


def foreign_kind(name: str, start: bytes) -> ForeignKind | None:
    """What a file with these first 8 bytes is, if it is neither safetensors nor GGUF; None if it may be one."""
    if not start:
        return ForeignKind("it is empty", "Download the file again.")
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    # A header of 2 to 5 times 256 plus 128 bytes begins alike, and a pickle's name says what it is.
    is_pickle = len(start) > 1 and start[0] == _PICKLE_OPCODE and start[1] in _PICKLE_PROTOCOLS
    if is_pickle and (name.endswith(_PICKLES) or any(start[4:])):
        return ForeignKind("it is a pickle", _PICKLE_REMEDY)
    return None

"""What can be told of weight files without loading them: their length by their header, and the hash they should have.

Read here by hand, since a doctor must also work where safetensors is what is broken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
"""The limit of the safetensors format."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FOLDERS: Final = ("transformer", "text_encoder", "vae")


def weight_files(model: Path) -> list[Path]:
    """The safetensors files of a diffusers folder, or the one file that the model is; sorted."""
    if model.is_file():
        return [model]
    return sorted(file for part in _FOLDERS for file in (model / part).glob("*.safetensors"))


def damage(file: Path) -> str | None:
    """What is wrong with a safetensors file by its header and length; None for a sound one."""
    try:
        length = file.stat().st_size
        with file.open("rb") as stream:
            announced = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if not 0 < announced <= min(_MAX_HEADER_BYTES, length - _LENGTH_BYTES):
                return "it is empty, cut off or no safetensors file"
            header = json.loads(stream.read(announced))
        expected = _LENGTH_BYTES + announced + max(_ends(header), default=0)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "its header is damaged"
    if length != expected:
        return f"it has {length} bytes instead of {expected}"
    return None


def _ends(header: dict[str, Any]) -> Iterator[int]:
    """Where the data of each tensor ends, in bytes behind the header."""
    for name, tensor in header.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            if not 0 <= start <= end:
                raise ValueError(name)
            yield end


def known_hash(file: Path, model: Path) -> str | None:
    """The SHA-256 that a file should have, as Hugging Face's downloads note it; None where nothing tells.

    In their cache a file is a link to one that has its hash as name; beside ``hf download --local-dir`` there is a
    metadata file with the commit, the hash and the time in three lines.
    """
    stored = file.resolve().name
    if _SHA256.fullmatch(stored):
        return stored
    if not file.is_relative_to(model):
        return None
    note = model / ".cache" / "huggingface" / "download" / f"{file.relative_to(model).as_posix()}.metadata"
    try:
        lines = note.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[1] if len(lines) > 1 and _SHA256.fullmatch(lines[1]) else None

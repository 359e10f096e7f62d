"""The header of a weight file: names, types, shapes and places of its tensors, and what its maker wrote about it.

Read here by hand: the front and the doctor look at files and import nothing that imports torch, and what is wrong with
a file should be reported with the tensor's name. Safetensors and GGUF are told apart by their first bytes.
"""

from __future__ import annotations

import json
import shlex
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from qied.weights.file_kinds import foreign_kind
from qied.weights.gguf_directory import MAGIC, read_directory
from qied.weights.problems import BadFile
from qied.weights.unfinished import check_download

MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""A header of some 100,000 tensors; the largest model that is known here has 4,000. The format allows 100 MB."""
_LENGTH_BYTES: Final = 8
_KEPT: Final = 64
_PERMISSIONS: Final = "Check the file and its permissions."
_MOST_SIDES: Final = 8
_LARGEST: Final = 1 << 53
"""No side and no offset of a file that exists is larger."""
BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one number of each type of safetensors."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: its type as the file's format names it, its shape, and where its bytes are behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """Tensors by name, the texts of the file's maker, and the byte at which the data starts."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int
    format: Literal["safetensors", "gguf"] = "safetensors"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: entry.shape for name, entry in self.tensors.items()}


def read_header(path: Path) -> Header:
    """Read the header of a file and check it against the file's length; raises BadFile.

    Nothing is allocated by what the file announces, only by what it has, and at most ``MAX_HEADER_BYTES`` of it. The
    latest ones are kept for as long as their files stay as they are: who looks for a model meets each file many times.
    """
    try:
        found = path.stat()
    except OSError as error:
        if path.is_symlink() and not isinstance(error, PermissionError):
            raise BadFile(f"it is a link to nothing, {path.readlink()}", "Correct the link.") from error
        raise BadFile(f"it cannot be read ({error.strerror})", _PERMISSIONS) from error
    if not stat.S_ISREG(found.st_mode):
        raise BadFile("it cannot be read (it is not a file)", "Name a file.")
    check_download(path, found.st_size)
    header = _kept(path, (found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns))
    if isinstance(header, BadFile):
        raise BadFile(header.what, header.remedy)
    return header


@lru_cache(maxsize=_KEPT)
def _kept(path: Path, _identity: tuple[int, ...]) -> Header | BadFile:
    try:
        with path.open("rb") as stream:
            length = stream.seek(0, 2)
            stream.seek(0)
            return _parsed(stream, path.name, length)
    except BadFile as problem:
        return problem
    except PermissionError as error:
        remedy = f"Let the user that runs qied read it: chmod a+r {shlex.quote(str(path))}."
        return BadFile(f"it cannot be read ({error.strerror})", remedy)
    except OSError as error:
        return BadFile(f"it cannot be read ({error.strerror})", _PERMISSIONS)


def _parsed(stream: BinaryIO, name: str, length: int) -> Header:
    start = stream.read(_LENGTH_BYTES)
    if start.startswith(MAGIC):
        stream.seek(0)
        return _of_gguf(stream, length)
    foreign = foreign_kind(name, start)
    if foreign is not None:
        raise BadFile(foreign.what, foreign.remedy)
    announced = int.from_bytes(start, "little")
    if len(start) < _LENGTH_BYTES:
        raise BadFile(f"it is not a safetensors file, or is truncated: it has {length} bytes")
    if announced > length - _LENGTH_BYTES:
        raise BadFile(
            f"it is not a safetensors file, or is truncated: its header should have {announced} bytes, but only "
            f"{length - _LENGTH_BYTES} follow"
        )
    if announced > MAX_HEADER_BYTES:
        raise BadFile(f"its header has {announced} bytes, more than {MAX_HEADER_BYTES}")
    content = _json_object(stream.read(announced))
    texts = content.pop("__metadata__", {})
    data_start = _LENGTH_BYTES + announced
    tensors = {tensor: _entry(tensor, value) for tensor, value in content.items()}
    _check_places(tensors, length - data_start)
    return Header(tensors, _texts(texts), data_start)


def _of_gguf(stream: BinaryIO, length: int) -> Header:
    found = read_directory(stream, length)
    tensors = {
        name: TensorEntry(tensor.type.name, tensor.shape, tensor.begin, tensor.end)
        for name, tensor in found.tensors.items()
    }
    return Header(tensors, found.texts, found.data_start, "gguf")


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise BadFile("it is not a safetensors file: its header is not JSON") from None
    if not isinstance(content, dict):
        raise BadFile("it is not a safetensors file: its header is not a JSON object")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise BadFile(f"its header has {twice[:120]!r} twice")
    return content


def _entry(name: str, value: Any) -> TensorEntry:
    try:
        kind, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        numbers = (*shape, begin, end)
        whole = isinstance(kind, str) and all(type(number) is int and 0 <= number < _LARGEST for number in numbers)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or len(shape) > _MOST_SIDES:
        raise BadFile(f"its header is damaged at {name[:120]!r}")
    if kind not in BITS:
        raise BadFile(f"{name[:120]!r} is of the unknown type {kind[:20]!r}", "Update qied, or use another file.")
    bits = prod(shape) * BITS[kind]
    if bits % 8 or end - begin != bits // 8:
        raise BadFile(f"its header is damaged at {name[:120]!r}: {list(shape)} of {kind} in {end - begin} bytes")
    return TensorEntry(kind, shape, begin, end)


def _check_places(tensors: Mapping[str, TensorEntry], room: int) -> None:
    """The data is the tensors one after the other: nothing overlaps, is left out, or is missing at the end."""
    reached, before = 0, ""
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < reached:
            raise BadFile(f"its header is damaged: {name[:120]!r} overlaps {before[:120]!r}")
        if entry.begin > reached:
            raise BadFile(
                f"its header is damaged: {entry.begin - reached} bytes before {name[:120]!r} belong to no tensor"
            )
        if entry.end > room:
            raise BadFile(
                f"it is truncated at {name[:120]!r}: {room} bytes of data are there, but it ends at {entry.end}"
            )
        reached, before = entry.end, name
    if reached < room:
        raise BadFile(f"it is longer than its header says, by {room - reached} bytes")


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}

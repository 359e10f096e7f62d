"""The directory of a GGUF file: what its maker wrote, and the types, shapes and places of its tensors.

The `gguf` package reads a directory too, but makes an array of each word of the vocabulary that a text encoder carries:
that takes seconds and half a gigabyte. It also believes every number in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from struct import Struct
from typing import BinaryIO, Final

from qied.weights.gguf_types import TYPES, GgufType
from qied.weights.problems import BadFile

MAGIC: Final = b"GGUF"
MAX_DIRECTORY_BYTES: Final = 32 * 1024 * 1024
"""Qwen2.5's vocabulary makes it 6 MB."""
_FIRST_BYTES: Final = 256 * 1024
_VERSIONS: Final = (2, 3)
_MOST_ENTRIES: Final = 65536
_MOST_SIDES: Final = 5
"""ggml has 4; ComfyUI-GGUF writes the convolutions of VAEs with all of theirs."""
_LARGEST: Final = 1 << 53
_MOST_TEXT: Final = 4096
_DEFAULT_ALIGNMENT: Final = 32
_LARGEST_ALIGNMENT: Final = 1 << 16
_U32, _U64 = Struct("<I"), Struct("<Q")
_FIXED: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the types of values that always have the same."""
_UINT32, _TEXT, _ARRAY = 4, 8, 9
_ALIGNMENT: Final = "general.alignment"
_PARTS: Final = "split.count"
_SHAPES: Final = "comfy.gguf.orig_shape."
"""What stands before the names of tensors that were given another shape to fit into ggml's dimensions."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor: its type, its shape with the longest stride first, and its bytes behind the directory."""

    type: GgufType
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class GgufDirectory:
    """Tensors by name, the maker's texts, and the byte at which the data starts."""

    tensors: dict[str, GgufTensor]
    texts: dict[str, str]
    data_start: int


def read_directory(stream: BinaryIO, length: int) -> GgufDirectory:
    """Read the directory of a file of ``length`` bytes from its beginning on; raises BadFile.

    Every count, size and offset is compared with the file before it is used. At most ``MAX_DIRECTORY_BYTES`` are read.
    """
    cursor = _Cursor(stream, length)
    cursor.skip(len(MAGIC))
    version = cursor.u32()
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in _VERSIONS:
            raise BadFile("it is a GGUF file for big-endian machines", "Download the usual, little-endian file.")
        raise BadFile(f"it is a GGUF file of version {version}, not {' or '.join(map(str, _VERSIONS))}")
    tensors, values = cursor.count("tensors"), cursor.count("values")
    texts, numbers, shapes = _values(cursor, values)
    if (parts := numbers.get(_PARTS, 1)) > 1:
        raise BadFile(
            f"it is one of the {parts} files of a split GGUF",
            "Merge them with llama-gguf-split --merge, or use one file.",
        )
    alignment = numbers.get(_ALIGNMENT, _DEFAULT_ALIGNMENT)
    if not 0 < alignment <= _LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise BadFile(f"its directory is damaged: {_ALIGNMENT} is {alignment}, not a power of two")
    found: dict[str, GgufTensor] = {}
    for name, tensor in _tensors(cursor, tensors):
        if name in found:
            raise BadFile(f"its directory has {name[:120]!r} twice")
        found[name] = _reshaped(name, tensor, shapes.get(name, tensor.shape))
    cursor.skip(0)
    data_start = -(-cursor.at // alignment) * alignment
    _check_places(found, alignment, length - data_start)
    return GgufDirectory(found, texts, data_start)


class _Cursor:
    """A place in the directory; of the file so much is read as is needed, in growing pieces."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._length = length
        self._read = bytearray()
        self.at = 0

    def u32(self) -> int:
        self._need(4)
        (value,) = _U32.unpack_from(self._read, self.at)
        self.at += 4
        return int(value)

    def u64(self) -> int:
        self._need(8)
        (value,) = _U64.unpack_from(self._read, self.at)
        self.at += 8
        return int(value)

    def count(self, of: str) -> int:
        found = self.u64()
        if found > _MOST_ENTRIES:
            raise BadFile(f"its directory announces {found} {of}, more than {_MOST_ENTRIES}")
        return found

    def text(self, what: str) -> str:
        """A text of at most ``_MOST_TEXT`` bytes; a longer one is passed over, and empty."""
        size = self.u64()
        if size > _MOST_TEXT:
            self.skip(size)
            return ""
        self._need(size)
        data = bytes(self._read[self.at : self.at + size])
        self.at += size
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise BadFile(f"its directory is damaged: {what} is not a text") from None

    def number(self, size: int) -> int:
        """A whole number of ``size`` bytes without a sign."""
        self.skip(size)
        return int.from_bytes(self._read[self.at - size : self.at], "little")

    def skip(self, size: int) -> None:
        self._need(size)
        self.at += size

    def skip_texts(self, count: int) -> None:
        """Pass over texts one by one: each takes at least 8 bytes, so the file's end also ends a false count."""
        for _ in range(count):
            size = self.u64()
            self.at += size

    def _need(self, size: int) -> None:
        if self.at + size > len(self._read):
            self._grow(self.at + size)

    def _grow(self, end: int) -> None:
        if end > self._length:
            raise BadFile(f"it is truncated: its directory goes beyond its {self._length} bytes")
        if end > MAX_DIRECTORY_BYTES:
            raise BadFile(f"its directory has more than {MAX_DIRECTORY_BYTES} bytes")
        wanted = min(max(end, _FIRST_BYTES, 4 * len(self._read)), MAX_DIRECTORY_BYTES, self._length)
        self._read += self._stream.read(wanted - len(self._read))
        if end > len(self._read):
            raise BadFile("it is truncated: it became shorter while it was read")


def _values(cursor: _Cursor, count: int) -> tuple[dict[str, str], dict[str, int], dict[str, tuple[int, ...]]]:
    """The maker's texts, those numbers that matter here, and shapes by tensor; everything else is passed over."""
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(count):
        key = cursor.text("the name of a value")
        kind = cursor.u32()
        if kind == _TEXT:
            texts[key] = cursor.text(repr(key[:120]))
        elif kind == _ARRAY and key.startswith(_SHAPES):
            shapes[key.removeprefix(_SHAPES)] = _sides(cursor, key)
        elif kind == _ARRAY:
            _skip_array(cursor, key)
        elif key == _ALIGNMENT and kind != _UINT32:
            raise BadFile(f"its directory is damaged: {_ALIGNMENT} is of the type {kind}")
        elif key in (_ALIGNMENT, _PARTS) and kind in _FIXED:
            numbers[key] = cursor.number(_FIXED[kind])
        elif kind in _FIXED:
            cursor.skip(_FIXED[kind])
        else:
            raise BadFile(f"its directory is damaged: {key[:120]!r} is of the unknown type {kind}")
    return texts, numbers, shapes


def _skip_array(cursor: _Cursor, key: str) -> None:
    kind, count = cursor.u32(), cursor.u64()
    if kind == _TEXT:
        cursor.skip_texts(count)
    elif kind in _FIXED:
        cursor.skip(count * _FIXED[kind])
    else:
        raise BadFile(f"its directory is damaged: {key[:120]!r} is an array of the type {kind}")


def _sides(cursor: _Cursor, key: str) -> tuple[int, ...]:
    kind, count = cursor.u32(), cursor.u64()
    if kind not in _FIXED or count > _MOST_SIDES:
        raise BadFile(f"its directory is damaged: {key[:120]!r} is not a shape")
    return tuple(cursor.number(_FIXED[kind]) for _ in range(count))


def _reshaped(name: str, tensor: GgufTensor, shape: tuple[int, ...]) -> GgufTensor:
    """A tensor in the shape that its maker wrote down, which is that of the same numbers in the same order."""
    if prod(shape) != prod(tensor.shape):
        raise BadFile(f"its directory is damaged: {name[:120]!r} is {list(tensor.shape)}, but was {list(shape)}")
    numbers = tensor.type.numbers
    if numbers > 1 and (not shape or shape[-1] % numbers):
        raise BadFile(
            f"{name[:120]!r} is stored as {tensor.type.name}, the blocks of which go across its rows of {list(shape)}",
            "Use a GGUF file with diffusers' shapes, as most are.",
        )
    return replace(tensor, shape=shape)


def _tensors(cursor: _Cursor, count: int) -> Iterator[tuple[str, GgufTensor]]:
    for _ in range(count):
        name = cursor.text("a tensor's name")
        sides = cursor.u32()
        if sides > _MOST_SIDES:
            raise BadFile(f"its directory is damaged: {name[:120]!r} has {sides} dimensions, more than {_MOST_SIDES}")
        shape = tuple(cursor.u64() for _ in range(sides))[::-1]
        number, begin = cursor.u32(), cursor.u64()
        if number not in TYPES:
            raise BadFile(f"{name[:120]!r} is of the unknown type {number}", "Update qied, or use another file.")
        kind = TYPES[number]
        if prod(shape) >= _LARGEST or begin >= _LARGEST:
            raise BadFile(f"its directory is damaged at {name[:120]!r}")
        if kind.numbers > 1 and (not shape or shape[-1] % kind.numbers):
            raise BadFile(
                f"its directory is damaged: {name[:120]!r} is {list(shape)}, but {kind.name} needs rows of "
                f"multiples of {kind.numbers}"
            )
        yield name, GgufTensor(kind, shape, begin, begin + prod(shape) // kind.numbers * kind.nbytes)


def _check_places(tensors: dict[str, GgufTensor], alignment: int, room: int) -> None:
    """The data is the tensors one after the other, each at the next aligned byte, and nothing behind them."""
    reached, before = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin < reached:
            raise BadFile(f"its directory is damaged: {name[:120]!r} overlaps {before[:120]!r}")
        if tensor.begin % alignment or tensor.begin - reached >= alignment:
            raise BadFile(
                f"its directory is damaged: {name[:120]!r} starts at {tensor.begin}, not right behind the tensor before"
            )
        if tensor.end > room:
            there = max(0, room)
            raise BadFile(
                f"it is truncated at {name[:120]!r}: {there} bytes of data are there, but it ends at {tensor.end}"
            )
        reached, before = tensor.end, name
    if room - reached >= alignment:
        raise BadFile(f"it is longer than its directory says, by {room - reached} bytes")

"""A weight file mapped into memory: its tensors are views of it, and take no memory until they are read."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import torch
from torch import Tensor

from qied.weights.gguf_types import BLOCKS
from qied.weights.header import Header, TensorEntry

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.uint8,  # torch of before 2.7 has no such type
    "I8": torch.int8,
    "U8": torch.uint8,
}
_NO_RESERVE = 0x4000
"""Linux's MAP_NORESERVE, which Python names only in later versions."""


class MappedFile:
    """Maps a file for as long as this object or a tensor of it lives.

    The mapping is private, so that nothing here can change the file, and no memory is set aside for what might be
    written to it: a system would otherwise refuse a file that is larger than its memory, as it does to
    ``safetensors.safe_open``.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Map it; raises OSError."""
        self._header = header
        with path.open("rb") as file:
            self._map = map_file(file.fileno())

    def tensor(self, name: str) -> Tensor:
        """Return a tensor by its name in the file, as a view of it.

        One that consists of GGUF's blocks comes as these: uint8 [..., bytes of a row].
        """
        entry = self._header.tensors[name]
        if (block := BLOCKS.get(entry.dtype)) is not None:
            rows = (*entry.shape[:-1], entry.shape[-1] // block.numbers * block.nbytes)
            return self._bytes(entry, self._header.data_start + entry.begin).view(rows)
        dtype, place = _DTYPES[entry.dtype], self._header.data_start + entry.begin
        if not entry.nbytes:
            return torch.empty(entry.shape, dtype=dtype)
        if place % dtype.itemsize:
            return self._bytes(entry, place).clone().view(dtype).view(entry.shape)
        return map_view(self._map, place, entry.nbytes, dtype).view(entry.shape)

    def _bytes(self, entry: TensorEntry, place: int) -> Tensor:
        """The bytes of a tensor that does not lie where its type would, or has no type here."""
        if not entry.nbytes:
            return torch.empty(0, dtype=torch.uint8)
        return map_view(self._map, place, entry.nbytes, torch.uint8)


def map_view(mapped: mmap.mmap, place: int, nbytes: int, dtype: torch.dtype) -> Tensor:
    """Bytes of a map from ``place`` on as a flat tensor, which keeps it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mapped, dtype=dtype, count=nbytes // dtype.itemsize, offset=place)


def map_file(descriptor: int) -> mmap.mmap:
    """Map an open file, which may be closed then; raises OSError."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    try:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=protection)
    except OSError:
        # A system that never promises more than it has. Nobody writes to weights, and here nobody could.
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)

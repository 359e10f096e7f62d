"""Names and shapes of the tensors in a pickled file (.pth), by an unpickler that calls nothing of the file's choice.

A pickle may name any function to be called. Here each name that weights need stands for a stub, and any other ends the
reading. No tensor is made and torch is not needed. Both forms that torch has written are read: a ZIP archive, and
before torch 1.6 a row of pickles.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from qied_client.errors import ModelUnsupported

_NESTED: Final = ("params_ema", "params", "state_dict", "model_state_dict")
_MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes of a pickle without its tensors' data."""
_LEGACY_HEAD: Final = 3
"""Pickles of the old form before the one with the tensors: a magic number, a version, facts on the system."""


class _Shape(tuple[int, ...]):
    """Stands for a tensor."""

    __slots__ = ()


def pickled_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name. Raises ModelUnsupported for anything but a mapping of tensors, OSError."""
    try:
        with path.open("rb") as file:
            content = _content(file)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        MemoryError,
        RecursionError,
        OverflowError,
    ) as error:
        raise _refused(path.name, f"it cannot be read ({type(error).__name__})") from None
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping):
        raise _refused(path.name, "it holds no weights by name")
    return {str(name): tuple(value) for name, value in content.items() if isinstance(value, _Shape)}


def _content(file: BinaryIO) -> Any:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            entry = next(entry for entry in archive.infolist() if entry.filename.rpartition("/")[2] == "data.pkl")
            if entry.file_size > _MOST_BYTES:
                raise ValueError("too large")
            return _Reader(io.BytesIO(archive.read(entry))).load()
    file.seek(0)
    head = io.BytesIO(file.read(_MOST_BYTES))
    for _ in range(_LEGACY_HEAD):
        _Reader(head).load()
    return _Reader(head).load()


class _Reader(pickle.Unpickler):
    """Makes shapes where torch would make tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, *_: _Shape(size)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name.endswith("Storage"):
            return None
        raise pickle.UnpicklingError(f"{module}.{name}"[:80])

    def persistent_load(self, pid: Any) -> None:
        """Storages are not read."""


def _refused(file: str, why: str) -> ModelUnsupported:
    return ModelUnsupported(
        f"{file} cannot be used as an upscaler: {why}.", "Take the model as .safetensors, or remove the file."
    )

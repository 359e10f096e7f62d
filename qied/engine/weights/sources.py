"""Where weights come from: named tensors of one component, read one at a time, and how far the reading is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import torch
from qied_client.errors import ModelUnsupported
from qied_client.text import counted
from torch import Tensor, nn

from qied.checkpoints.names import PartRole
from qied.checkpoints.part_file import usable_part
from qied.checkpoints.pipeline_folder import REMEDY
from qied.engine.weights.mapped_file import MappedFile
from qied.engine.weights.quantise import E4M3
from qied.engine.weights.stored_weight import StoredWeight
from qied.progress import OnProgress
from qied.weights.gguf_types import BLOCKS
from qied.weights.header import Header
from qied.weights.stored import Stored

RELEASE_BYTES = 1 << 27
"""Mapped files are let go of each time that so many bytes of them were read: until then they count as memory."""
_MAPPED_ITEM_BYTES = 2


class TensorSource(Protocol):
    """The tensors of one component by the names that the model's own classes have."""

    @property
    def component(self) -> str:
        """Name of the component, for progress and errors."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored."""

    def names(self) -> Collection[str]: ...

    def origin(self, name: str) -> str:
        """Where a tensor comes from, for errors."""

    def read(self, name: str) -> Tensor:
        """Return a tensor on any device in a dtype that can be computed with; copy them to keep them."""

    def stored(self, name: str) -> StoredWeight:
        """Return a tensor as it is stored."""

    def release(self) -> None:
        """Let go of what reading has mapped; tensors that are still held stay valid."""


class FileSource:
    """The tensors of weight files in any layout, memory-mapped: one that is read and dropped takes no memory."""

    def __init__(self, component: PartRole, files: Sequence[Path]) -> None:
        """Read the files' headers; raises ModelUnsupported where one is damaged, or in a format that is not run."""
        self.component = component
        self._open: dict[Path, MappedFile] = {}
        self._headers: dict[Path, Header] = {}
        self._seen = {file: _identity(file) for file in files}
        self._tensors: dict[str, tuple[Path, Stored]] = {}
        self.nbytes = 0
        for file in files:
            part = usable_part(file, component)
            self._headers[file] = part.header
            self.nbytes += part.nbytes
            for name, tensor in part.tensors.items():
                if name in self._tensors:
                    raise ModelUnsupported(f"{self._tensors[name][0]} and {file} both hold {name}.", REMEDY)
                self._tensors[name] = (file, tensor)

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._tensors.keys()

    def origin(self, name: str) -> str:
        """Path of the tensor's file."""
        return str(self._tensors[name][0])

    def read(self, name: str) -> Tensor:
        """Return a tensor, expanded to FP32 where it is E4M3 or consists of blocks; raises as :meth:`stored`."""
        return self.stored(name).dense()

    def stored(self, name: str) -> StoredWeight:
        """Return a tensor as views of its file; raises ModelUnsupported where that is damaged or has changed."""
        file, tensor = self._tensors[name]
        self._check_unchanged(file)
        if not tensor.pieces:
            return self._weight(file, tensor)
        pieces = [self._weight(file, piece).dense() for piece in tensor.pieces]
        return StoredWeight(torch.cat(pieces) if tensor.joined == "rows" else torch.stack(pieces, dim=2))

    def _weight(self, file: Path, tensor: Stored) -> StoredWeight:
        values = self._get(file, tensor.key)
        scale = None if tensor.scale is None else self._get(file, tensor.scale[0]).float().flatten()
        kind = tensor.entry.dtype if tensor.entry.dtype in BLOCKS else None
        block_scale = None if tensor.block_scale is None else self._get(file, tensor.block_scale)
        return StoredWeight(values, scale, kind, tensor.group, block_scale)

    def bytes_of(self, dtype: str) -> int:
        """Bytes of the tensors that are of a type, by its name in safetensors, and have no scales within rows."""
        found = (tensor for _, tensor in self._tensors.values() if tensor.block_scale is None)
        return sum(tensor.entry.nbytes for tensor in found if tensor.entry.dtype == dtype)

    def release(self) -> None:
        """Let go of the files, which unmaps them once no tensor of theirs is held; the next read maps them again."""
        self._open.clear()

    def header_bytes(self, file: Path) -> int:
        """Bytes at the beginning of one of the files that say what the rest is."""
        return self._headers[file].data_start

    @property
    def files(self) -> dict[Path, tuple[int, int, int]]:
        """The files, each with the size, time of change and inode that it had when it was opened."""
        return dict(self._seen)

    def check_unchanged(self) -> None:
        """Raise ModelUnsupported where a file is not the one that was opened, to its time of change.

        Tensors are views of the files: one that is written to changes the model, and one that is cut ends the process.
        """
        for file in self._seen:
            self._check_unchanged(file)

    def _check_unchanged(self, file: Path) -> None:
        if _identity(file) != self._seen[file]:
            raise ModelUnsupported(f"{file} changed since it was loaded.", "Restart the daemon.")

    def _get(self, file: Path, key: str) -> Tensor:
        try:
            if file not in self._open:
                self._open[file] = MappedFile(file, self._headers[file])
        except OSError as error:
            raise ModelUnsupported(
                f"{file} cannot be read ({error.strerror}).", "Check the file, its disk and its permissions."
            ) from error
        return self._open[file].tensor(key)


NOTHING_QUANTISED: Final[Mapping[str, StoredWeight]] = MappingProxyType({})


@dataclass(frozen=True)
class MappedWeights:
    """What a module needs besides its own parameters to use them as they are stored, by their names.

    ``scales`` are those of weights in E4M3. ``forms`` are all other weights that have to be expanded, and what was
    quantised here: in their places the module has no data.
    """

    scales: dict[str, Tensor]
    forms: dict[str, StoredWeight]


@dataclass
class WeightReader:
    """Reads components one after the other and reports how far it is, over the bytes of all of them."""

    total: int
    on_progress: OnProgress
    done: int = 0
    _mapped: int = 0

    def read(self, source: TensorSource, name: str) -> Tensor:
        """Return a tensor of ``source`` and report that its bytes are done."""
        return self.stored(source, name).dense()

    def stored(self, source: TensorSource, name: str) -> StoredWeight:
        """Return a tensor as ``source`` stores it, and report that its bytes are done."""
        if self._mapped > RELEASE_BYTES:
            source.release()
            self._mapped = 0
        weight = source.stored(name)
        self._mapped += weight.nbytes
        self.done = min(self.done + weight.nbytes, self.total)
        self.on_progress(source.component, self.done, self.total)
        return weight

    def pass_over(self, source: TensorSource, nbytes: int) -> None:
        """Report bytes of ``source`` that need not be read, since what they would become is there."""
        self.done = min(self.done + nbytes, self.total)
        self.on_progress(source.component, self.done, self.total)

    def finish(self, source: TensorSource, start: int) -> None:
        """Report that ``source``, begun when ``start`` bytes were done, is done to its last byte."""
        source.release()
        self._mapped = 0
        self.done = start + source.nbytes
        self.on_progress(source.component, self.done, self.total)

    def fill(
        self, module: nn.Module, source: TensorSource, names: Iterable[str], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Put the tensors of these ``names``, cast and moved, into ``module``.

        Raises ModelUnsupported where tensors are missing, left over or of another shape.
        """
        names = list(names)
        check_names(source, module.state_dict(), names)
        tensors: dict[str, Tensor] = {}
        for name in names:
            stored = self.stored(source, name)
            check_floating(source, name, stored)
            tensors[name] = stored.copied(device, dtype)
        _load(module, source, tensors)

    def map(
        self,
        module: nn.Module,
        source: TensorSource,
        names: Iterable[str],
        dtype: torch.dtype,
        is_mapped: Callable[[str], bool],
        quantised: Mapping[str, StoredWeight] = NOTHING_QUANTISED,
    ) -> MappedWeights:
        """Put tensors into ``module`` as they are stored and where they are, in mapped files that must not change.

        Those for which ``is_mapped`` is False are copied in ``dtype``, and so are those of more than 16 bits, since
        plans count streamed weights with no more (``checkpoints.file_bytes`` tells them which are copied). What has to
        be expanded is returned, and left out of the module: its parameters have the shapes that it expands to.
        ``quantised`` weights are taken in the place of those in ``source``, and left out in the same way. Raises as
        :meth:`fill`.
        """
        names = list(names)
        check_names(source, module.state_dict(), names)
        tensors: dict[str, Tensor] = {}
        mapped = MappedWeights({}, {})
        for name in names:
            if name in quantised:
                tensors[name] = torch.empty(quantised[name].shape, dtype=dtype, device="meta")
                mapped.forms[name] = quantised[name]
                continue
            weight = self.stored(source, name)
            check_floating(source, name, weight)
            in_8_bits = weight.values.dtype == E4M3 and weight.block_scale is None
            if not is_mapped(name) or (weight.is_plain and weight.values.itemsize > _MAPPED_ITEM_BYTES):
                tensors[name] = weight.copied(torch.device("cpu"), dtype)
            elif not weight.is_plain and not in_8_bits:
                tensors[name] = torch.empty(weight.shape, dtype=dtype, device="meta")
                mapped.forms[name] = weight
            else:
                tensors[name] = weight.values
                if weight.scale is not None:
                    mapped.scales[name] = weight.scale.clone()
        _load(module, source, tensors)
        return mapped


def _load(module: nn.Module, source: TensorSource, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise ModelUnsupported(f"{source.component} does not fit the model: {error}.", REMEDY) from error


def check_names(source: TensorSource, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raise ModelUnsupported where the names ``found`` in a source are not the expected ones.

    What is left over is named with its file, so that a foreign checkpoint is recognised.
    """
    wanted, there = set(expected), set(found)
    unknown = sorted(there - wanted)
    if unknown:
        raise ModelUnsupported(
            f"{source.origin(unknown[0])} holds tensors that the model does not have: {unknown[:3]}.", REMEDY
        )
    missing = sorted(wanted - there)
    if missing:
        raise ModelUnsupported(f"{source.component} lacks {counted(len(missing), 'tensor')}: {missing[:3]}.", REMEDY)


def check_shape(source: TensorSource, name: str, weight: StoredWeight, shape: tuple[int, ...]) -> None:
    """Raise ModelUnsupported where a tensor has another shape than the model needs, or holds no real numbers."""
    check_floating(source, name, weight)
    if weight.shape != shape:
        raise ModelUnsupported(
            f"{source.origin(name)} does not fit the model: {name} is {weight.shape} and should be {shape}.",
            REMEDY,
        )


def check_floating(source: TensorSource, name: str, weight: StoredWeight) -> None:
    """Raise ModelUnsupported for integers, booleans and complex numbers, which torch would silently cast."""
    numbers = weight.values.is_floating_point() or weight.values.dtype == torch.int8  # INT8 has a scale, or was refused
    if weight.kind is None and weight.block_scale is None and not numbers:
        raise ModelUnsupported(
            f"{source.origin(name)} does not fit the model: {name} holds {weight.values.dtype}, not floating-point.",
            REMEDY,
        )


def _identity(file: Path) -> tuple[int, int, int]:
    """Size, time of change in nanoseconds and inode; zeros for a file that is gone."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ino

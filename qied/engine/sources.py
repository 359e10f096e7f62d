"""Where weights come from: named tensors of one component, read one at a time, and how far the reading is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from qied_client.errors import ModelUnsupported
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from qied.engine.checkpoint import REMEDY, WeightFiles

OnProgress = Callable[[str, int, int], None]
"""Called with (component, bytes read so far, bytes of all components)."""


class TensorSource(Protocol):
    """The tensors of one component by their names in the checkpoint."""

    @property
    def component(self) -> str:
        """Name of the component, for progress and errors."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored."""

    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def origin(self, name: str) -> str:
        """Where a tensor comes from, for errors."""

    def read(self, name: str) -> Tensor:
        """Return a tensor on any device in any dtype; it may be a view of a file, so copy what is to stay."""


class SafetensorsSource:
    """The tensors of safetensors files, memory-mapped: one that is read and dropped takes no memory."""

    def __init__(self, files: WeightFiles) -> None:
        """Read the files' headers; raises ModelUnsupported where one is damaged."""
        self.component = files.component
        self.nbytes = files.bytes
        self._files: dict[str, Path] = {}
        self._open: dict[Path, Any] = {}
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._handles = ExitStack()
        for file in files.files:
            self._seen[file] = _identity(file)
            try:
                self._open[file] = self._handles.enter_context(safe_open(file, framework="pt", device="cpu"))
            except SafetensorError as error:
                self._handles.close()
                raise _damaged(file, error) from error
            self._files.update(dict.fromkeys(self._open[file].keys(), file))

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._files.keys()

    def origin(self, name: str) -> str:
        """Path of the tensor's file."""
        return str(self._files[name])

    def read(self, name: str) -> Tensor:
        """Return a tensor as a view of its file; raises ModelUnsupported where it is damaged or has changed."""
        file = self._files[name]
        self._check_unchanged(file)
        try:
            tensor: Tensor = self._open[file].get_tensor(name)
        except SafetensorError as error:
            raise _damaged(file, error) from error
        return tensor

    def check_unchanged(self) -> None:
        """Raise ModelUnsupported where a file is not the one that was opened, to its time of change.

        Tensors are views of the files: one that is written to changes the model, and one that is cut ends the process.
        """
        for file in self._open:
            self._check_unchanged(file)

    def _check_unchanged(self, file: Path) -> None:
        if _identity(file) != self._seen[file]:
            raise ModelUnsupported(f"{file} changed since it was loaded.", "Restart the daemon.")


@dataclass
class WeightReader:
    """Reads components one after the other and reports how far it is, over the bytes of all of them."""

    total: int
    on_progress: OnProgress
    done: int = 0

    def read(self, source: TensorSource, name: str) -> Tensor:
        """Return a tensor of ``source`` and report that its bytes are done."""
        tensor = source.read(name)
        self.done = min(self.done + tensor.nbytes, self.total)
        self.on_progress(source.component, self.done, self.total)
        return tensor

    def finish(self, source: TensorSource, start: int) -> None:
        """Report that ``source``, begun when ``start`` bytes were done, is done to its last byte."""
        self.done = start + source.nbytes
        self.on_progress(source.component, self.done, self.total)

    def fill(
        self,
        module: nn.Module,
        source: TensorSource,
        names: Iterable[str],
        device: torch.device,
        dtype: torch.dtype | None,
        rename: Callable[[str], str | None] = lambda name: name,
    ) -> None:
        """Put the tensors of these ``names``, cast and moved, into ``module``; ``rename`` gives a name in the module.

        A name of None is skipped. A ``dtype`` of None leaves weights as they are stored and, where they need no move,
        where they are: in a mapped file, which then must not change. Raises ModelUnsupported where tensors are
        missing, left over or of another shape.
        """
        targets = {name: target for name in names if (target := rename(name)) is not None}
        check_names(source, set(module.state_dict()), targets)
        tensors: dict[str, Tensor] = {}
        for name, target in targets.items():
            stored = self.read(source, name)
            check_floating(source, name, stored)
            tensors[target] = stored.to(device, dtype or stored.dtype, copy=dtype is not None)
        try:
            module.load_state_dict(tensors, strict=False, assign=True)
        except RuntimeError as error:
            raise ModelUnsupported(f"{source.component} does not fit the model: {error}.", REMEDY) from error


def check_names(source: TensorSource, expected: Collection[str], found: dict[str, str]) -> None:
    """Raise ModelUnsupported where the names ``found`` in a source (to names of the model) are not the expected ones.

    What is left over is named with its file, so that a foreign checkpoint is recognised.
    """
    wanted = set(expected)
    unknown = sorted(name for name, target in found.items() if target not in wanted)
    if unknown:
        raise ModelUnsupported(
            f"{source.origin(unknown[0])} holds tensors that the model does not have: {unknown[:3]}.", REMEDY
        )
    missing = sorted(wanted - set(found.values()))
    if missing:
        raise ModelUnsupported(f"{source.component} lacks {len(missing)} tensors: {missing[:3]}.", REMEDY)


def check_shape(source: TensorSource, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ModelUnsupported where a tensor has another shape than the model needs, or holds no real numbers."""
    check_floating(source, name, tensor)
    if tensor.shape != shape:
        raise ModelUnsupported(
            f"{source.origin(name)} does not fit the model: {name} is {tuple(tensor.shape)} and should be {shape}.",
            REMEDY,
        )


def check_floating(source: TensorSource, name: str, tensor: Tensor) -> None:
    """Raise ModelUnsupported for integers, booleans and complex numbers, which torch would cast without a word."""
    if not tensor.is_floating_point():
        raise ModelUnsupported(
            f"{source.origin(name)} does not fit the model: {name} holds {tensor.dtype}, not floating-point.",
            REMEDY,
        )


def _identity(file: Path) -> tuple[int, int, int]:
    """Size, time of change in nanoseconds and inode; zeros for a file that is gone."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ino


def _damaged(file: Path, error: SafetensorError) -> ModelUnsupported:
    return ModelUnsupported(f"{file} is damaged: {error}.", REMEDY)

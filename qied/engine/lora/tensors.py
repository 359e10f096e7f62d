"""The matrices of a LoRA file, read and checked one change at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qied.loras.catalogue import LoraFile
from qied.loras.changes import Change
from qied.loras.refusals import unusable


class LoraTensors:
    """The tensors of an open file; ``name`` is the file as errors name it."""

    def __init__(self, handle: Any, name: str, device: torch.device) -> None:
        self._handle = handle
        self._name = name
        self._device = device

    def matrices(self, change: Change) -> tuple[Tensor, Tensor]:
        """The two matrices of a change, FP32 on the device; what it counts is in the first one.

        ``down`` [rank, inputs] and ``up`` [outputs, rank]; for LoKr the factors [o1, i1] and [o2, i2]. Raises
        ModelUnsupported if they hold values that are not numbers.
        """
        read = partial(self._part, change)
        scale = self._scale(change)
        if change.method == "LoKr":
            return self._factor(change, "lokr_w1").mul_(scale), self._factor(change, "lokr_w2")
        if change.method == "full difference":
            return self._whole(change, self._read(change.tensors["difference"]))
        if change.method == "bias":
            empty = torch.empty(0, device=self._device)
            return empty.view(0, change.inputs), empty.view(change.outputs, 0)
        if change.method == "LoRA":
            return read("down").mul_(scale), read("up")
        first, second = ((read(f"hada_w{number}_a"), read(f"hada_w{number}_b")) for number in (1, 2))
        if first[0].shape[1] * second[0].shape[1] > change.rank:
            return self._whole(change, (first[0] @ first[1]).mul_(second[0] @ second[1]).mul_(scale))
        # Each column of one up matrix times each of the other, and so with the rows of the down matrices.
        up = (first[0].unsqueeze(2) * second[0].unsqueeze(1)).flatten(1)
        down = (first[1].unsqueeze(1) * second[1].unsqueeze(0)).flatten(0, 1)
        return down.mul_(scale), up

    def bias(self, change: Change) -> Tensor | None:
        """What a change adds to the linear's bias [outputs], FP32 on the device; None for nothing."""
        name = change.tensors.get("bias")
        return None if name is None else self._read(name)

    def check_zero(self, names: Iterable[str]) -> None:
        """Raise ModelUnsupported where one of these tensors is not all zero."""
        for name in names:
            if bool(self._read(name).any()):
                raise unusable(
                    self._name,
                    f"{name} changes a norm, which this version does not run",
                    "Use a version of it that leaves the norms alone, or leave it out.",
                )

    def _whole(self, change: Change, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """A matrix [outputs, inputs] as a product with the identity, on its shorter side."""
        identity = torch.eye(change.rank, device=self._device)
        return (matrix, identity) if change.outputs <= change.inputs else (identity, matrix)

    def _factor(self, change: Change, name: str) -> Tensor:
        if name in change.tensors:
            return self._part(change, name)
        return self._part(change, f"{name}_a") @ self._part(change, f"{name}_b")

    def _part(self, change: Change, part: str) -> Tensor:
        """A matrix of a change; a convolution of one pixel counts as one."""
        tensor = self._read(change.tensors[part])  # type: ignore[index]
        return tensor.view(tensor.shape[:2])

    def _scale(self, change: Change) -> float:
        if change.alpha is None:
            scale = change.scale
        else:
            alphas = self._read(change.alpha).flatten()
            if bool((alphas != alphas[0]).any()):
                raise unusable(self._name, f"{change.alpha} holds several alphas for one linear")
            scale = float(alphas[0]) / change.divisor
        if abs(scale) > LARGEST_SCALE:
            raise unusable(self._name, f"{change.alpha or 'its alpha'} makes its scale {scale:g}")
        return scale

    def _read(self, name: str) -> Tensor:
        """Return a tensor in FP32 on the device."""
        try:
            tensor: Tensor = self._handle.get_tensor(name).to(self._device, copy=True).float()
        except SafetensorError as error:
            raise unusable(self._name, f"{name} is damaged: {error}") from error
        if not bool(tensor.isfinite().all()):
            raise unusable(self._name, f"{name} holds values that are not finite")
        return tensor


LARGEST_SCALE = 1e4
"""Of alpha over rank: known ones are below a hundred, and BF16 must hold the product."""


@contextmanager
def opened(file: LoraFile, name: str, device: torch.device) -> Iterator[LoraTensors]:
    """Open a file, which must be as it was when the daemon started; raises ModelUnsupported."""
    check_unchanged(file, name)
    try:
        source = safe_open(file.real_path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise unusable(name, f"it is damaged: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise unusable(name, f"it cannot be read ({error.strerror or 'the system does not say why'})") from error
    with source as handle:
        yield LoraTensors(handle, name, device)


def check_unchanged(file: LoraFile, name: str) -> None:
    """Raise ModelUnsupported where the file is another one by now: its memory was counted when the daemon started."""
    if not file.unchanged:
        raise unusable(name, "it is gone or has changed since the daemon started", "Restart the daemon.")

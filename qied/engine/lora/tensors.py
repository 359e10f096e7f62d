"""The matrices of a LoRA file, read and checked one pair at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qied.loras.catalogue import LoraFile
from qied.loras.contents import Pair, unusable


class LoraTensors:
    """The tensors of an open file; ``name`` is the file as errors name it."""

    def __init__(self, handle: Any, name: str, device: torch.device) -> None:
        self._handle = handle
        self._name = name
        self._device = device

    def pair(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return ``down`` [rank, inputs], times alpha / rank, and ``up`` [outputs, rank], FP32 on the device.

        Raises ModelUnsupported if they hold values that are not numbers.
        """
        scale = pair.scale if pair.alpha is None else float(self._read(pair.alpha).reshape(())) / pair.rank
        if abs(scale) > LARGEST_SCALE:
            raise unusable(self._name, f"{pair.alpha or 'its alpha'} makes its scale {scale:g}")
        return self._read(pair.down).mul_(scale), self._read(pair.up)

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

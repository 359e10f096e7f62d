"""One weight as a file has it, and the numbers that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qied.engine.weights.block_scales import expand_blocks_into, expand_rows
from qied.engine.weights.gguf_blocks import expand, expand_into, numbers_of
from qied.engine.weights.quantise import E4M3, dequantise, row_chunks
from qied.engine.weights.rotation import reversed_groups, rotate


@dataclass(frozen=True)
class StoredWeight:
    """A weight as it is stored: ``values``, times ``scale`` (FP32 [rows] or [1]) where they are E4M3 or INT8.

    With a ``kind`` they are GGUF's blocks of that type, uint8 [..., bytes of a row]. With a ``block_scale`` they are
    NVFP4 or MXFP8: see ``block_scales``. All may be views of a file, on any device; copy them to keep them. INT8 values
    may be rotated in groups of ``group`` inputs, as ConvRot files have them.
    """

    values: Tensor
    scale: Tensor | None = None
    kind: str | None = None
    group: int = 1
    block_scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight, whatever holds it."""
        if self.block_scale is not None and self.values.dtype == torch.uint8:
            return self.values.shape[0], 2 * self.values.shape[1]
        if self.kind is None:
            return tuple(self.values.shape)
        return (*self.values.shape[:-1], numbers_of(self.kind, self.values.shape[-1]))

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return sum(each.nbytes for each in (self.values, self.scale, self.block_scale) if each is not None)

    @property
    def is_plain(self) -> bool:
        """Whether the values are the numbers themselves."""
        return self.scale is None and self.kind is None and self.block_scale is None

    def on(self, device: torch.device) -> StoredWeight:
        """The same weight as it is stored, on ``device``."""
        scale = None if self.scale is None else self.scale.to(device)
        block_scale = None if self.block_scale is None else self.block_scale.to(device)
        return replace(self, values=self.values.to(device), scale=scale, block_scale=block_scale)

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """The weight in ``dtype`` where it lies, rounded once, by way of FP32 copies of some rows at a time.

        Values that are in ``dtype`` already are returned themselves.
        """
        if self.is_plain:
            return self.values.to(dtype)
        if self.scale is not None and self.block_scale is None and self.group == 1:
            return dequantise(self.values.reshape(len(self.values), -1), self.scale, dtype).view(self.values.shape)
        result = torch.empty(self.shape, dtype=dtype, device=self.values.device)
        if self.kind is not None:
            expand_into(self.values, self.kind, result)
        elif self.block_scale is not None:
            expand_blocks_into(self.values, self.block_scale, self.scale, result)
        else:
            self._turned_back_into(result)
        return result

    def dense(self, device: torch.device | None = None) -> Tensor:
        """The weight without a scale: what has one in FP32, each product rounded once; plain E4M3 also in FP32.

        Blocks, NVFP4 and MXFP8 are expanded to FP32, on ``device`` if there is one: they take less to copy than that.
        """
        if self.is_plain:
            return self.values.float() if self.values.dtype == E4M3 else self.values
        on_device = device is not None and (self.kind is not None or self.block_scale is not None)
        return (self.on(device) if on_device and device is not None else self).numbers(torch.float32)

    def rows(self, rows: slice) -> StoredWeight:
        """Some rows of a weight without a scale."""
        return StoredWeight(self.values[rows], None, self.kind)

    def looked_up(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows of these numbers (int64 [n]) in ``dtype``, [n, inputs]; the others are not read."""
        # Rows are taken as bytes: types of one byte have no look-up of their own.
        values = self.values.view(torch.uint8)[rows].view(self.values.dtype)
        if self.block_scale is not None:
            return expand_rows(values, self.block_scale, rows, self.scale).to(dtype)
        scale = self.scale[rows] if self.scale is not None and len(self.scale) > 1 else self.scale
        return replace(self, values=values, scale=scale).numbers(dtype)

    def put(self, target: Tensor, device: torch.device) -> None:
        """Put the weight into ``target`` of its shape, rounded once; blocks are expanded on ``device``."""
        if self.kind is None:
            target.copy_(self.dense())
        elif target.device == device:
            expand_into(self.values.to(device), self.kind, target)
        else:
            target.copy_(expand(self.values.to(device), self.kind, target.dtype))

    def copied(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """A copy of the weight in ``dtype`` on ``device``, rounded once.

        It crosses the bus as it is stored and is expanded there, and what is only cast is cast a piece at a time, so
        that host memory never holds all of it.
        """
        if not self.is_plain:
            return self.on(device).numbers(dtype)
        result = torch.empty(self.values.shape, dtype=dtype, device=device)
        values, target = self.values.reshape(-1), result.view(-1)
        if values.dtype == dtype:
            target.copy_(values)
        else:
            for part in row_chunks(len(values), 1):
                target[part] = values[part]
        return result

    def _turned_back_into(self, result: Tensor) -> None:
        """Values times their scales, without their rotation, [rows, inputs]."""
        assert self.scale is not None
        for part in row_chunks(*self.values.shape):
            scale = self.scale[part] if len(self.scale) > 1 else self.scale
            whole = dequantise(self.values[part], scale, torch.float32)
            result[part] = reversed_groups(rotate(whole, self.group), self.group)

"""Random weights with which blocks matter: gates as large as a trained model's, and attention that picks tokens.

With plain random weights a block changes its streams by less than BF16 resolves, and no error in it would show.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from memory_bench.full_size import RandomSource, transformer_shapes
from torch import Tensor

from forward_bench.setting import Setting
from qied.engine.weights.quantise import rotate_to_int8
from qied.engine.weights.rotation import rotate
from qied.planning.layout.block_layout import rotation_group

_SHIFT_AND_SCALE = 0.2
_HEAD_NORM = 1.6
"""Weight of the norms of queries and keys: attention then spreads over some ten tokens."""
GATE = 0.3
"""Size of gates with which a block changes its streams by about a sixth."""
LARGE_GATE = 2.0
"""With these its update is about as large as the stream, so that the rounding of streams hides nothing of it."""
_E4M3_MAX = 448.0


class Lively(RandomSource):
    """Weights of a transformer whose blocks have gates of about this size."""

    def __init__(self, setting: Setting, gate: float = GATE) -> None:
        super().__init__("transformer", transformer_shapes(setting.config), torch.device(setting.device), kept=False)
        self._gate = gate

    def draw(self, name: str) -> Tensor:
        """Draw a tensor."""
        if re.search(r"_mod\.1\.bias$", name):
            rows = self.normal(name).view(6, -1)
            sizes = [_SHIFT_AND_SCALE, _SHIFT_AND_SCALE, self._gate] * 2
            return (rows * torch.tensor(sizes, device=rows.device).unsqueeze(1)).flatten().to(torch.bfloat16)
        weight = super().draw(name)
        return weight * _HEAD_NORM if re.search(r"attn\.norm_\w+\.weight$", name) else weight


class OneBlock(Lively):
    """A transformer that shows what its one block does: the output is the first channels of the normalised stream.

    ``rounded`` rounds the block's linears as the executor does, if it does; the modulation is the same at every
    timestep.
    """

    def __init__(self, setting: Setting, gate: float, rounded: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(setting, gate)
        self._rounded = rounded

    def draw(self, name: str) -> Tensor:
        """Draw a tensor."""
        weight = super().draw(name)
        if name.startswith("norm_out.") or re.search(r"_mod\.1\.weight$", name):
            return torch.zeros_like(weight)
        if name == "proj_out.weight":
            return torch.eye(*weight.shape, dtype=weight.dtype, device=weight.device)
        if self._rounded is not None and name.startswith("transformer_blocks.") and weight.dim() == 2:
            return self._rounded(weight)
        return weight


def in_int8(weight: Tensor) -> Tensor:
    """Rotated INT8 times the scale of each row, rotated back, FP32."""
    group = rotation_group(weight.shape[1], weight.shape[1])
    quantised = rotate_to_int8(weight.float(), group)
    return rotate(quantised.values.float() * quantised.scale, group)


def in_fp8(weight: Tensor) -> Tensor:
    """E4M3 times the scale of each row, FP32."""
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / _E4M3_MAX
    return (weight.float() / scale).to(torch.float8_e4m3fn).float() * scale

"""The arena of a sweep: one piece of device memory that holds every temporary of its forwards, at known places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.block.views import layout_views
from qied.planning.layout.block_layout import rotation_group
from qied.planning.layout.forward_layout import ArenaLayout, Tokens


@dataclass(frozen=True)
class Workspace:
    """What the blocks of all forwards use in turns; rows suffice for the forward with the most.

    ``qkv`` is [rows, 3D], ``wide`` [rows of a span, F], both of the compute type. ``quantised`` (E4M3 or INT8 [rows,
    D]) with ``scale`` (FP32 [rows and a gap]) and ``wide_quantised`` with ``wide_scale`` are there in FP8 and INT8,
    ``expanded`` [F * D] with FP8 as storage, ``low_rank`` [rows, width] with LoRAs. With attention in FP8, ``heads``
    E4M3 [rows, 3D] is its input and ``attention_scales`` FP32 [8, 4] has its scales. ``wide`` and its quantised form
    lie where QKV and heads lay.
    """

    qkv: Tensor
    wide: Tensor
    quantised: Tensor | None = None
    scale: Tensor | None = None
    wide_quantised: Tensor | None = None
    wide_scale: Tensor | None = None
    expanded: Tensor | None = None
    low_rank: Tensor | None = None
    heads: Tensor | None = None
    attention_scales: Tensor | None = None

    @property
    def rotation_group(self) -> int:
        """Inputs that are rotated together before they become INT8."""
        return rotation_group(self.qkv.shape[1] // 3, self.wide.shape[1])


@dataclass(frozen=True)
class Region:
    """What one forward keeps from block to block.

    ``residual`` [all tokens, D] are the residual streams, ``update`` [all tokens, D] what is to be added to them yet,
    times its gate; both of the compute type, text first. ``rotation`` FP32 [all tokens, head_dim] has cosine and sine
    of each pair. ``modulation`` is [layers + 1, 3, 6, D]: by kind of token (text, target, reference) shift, scale and
    gate of the attention, then of the MLP; behind the last block's, shift and scale of the last norm.
    """

    tokens: Tokens
    residual: Tensor
    update: Tensor
    rotation: Tensor
    modulation: Tensor

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.modulation) - 1


@dataclass(frozen=True)
class Arena:
    """The views of one arena, and where it begins: two arenas at the same place hold everything at the same places."""

    workspace: Workspace
    regions: tuple[Region, ...]
    address: int


def make_arena(layout: ArenaLayout, forwards: Sequence[Tokens], device: torch.device) -> Arena:
    """Allocate an arena; what it holds is undefined."""
    memory = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
    workspace = Workspace(**layout_views(layout.workspace, memory))
    regions = tuple(
        Region(tokens, **layout_views(entries, memory))
        for tokens, entries in zip(forwards, layout.regions, strict=True)
    )
    return Arena(workspace, regions, memory.data_ptr())

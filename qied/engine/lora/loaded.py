"""One LoRA on the device: its branches, stacked as the packed linears of a block are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.lora.tensors import LoraTensors
from qied.engine.ops.low_rank import Branch, LowRankShare
from qied.loras.contents import LoraContents, Pair
from qied.planning.block_layout import BlockShape, linears

_PLACES = {
    module: (linear.name, place)
    for linear in linears(BlockShape(1, 1, 1))
    for place, module in enumerate(linear.modules)
}
"""Where each module lies: the packed linear, and which of its equal parts."""


@dataclass(frozen=True)
class LoadedLora:
    """The branches of a LoRA: for each block those of its packed linears, by the names that the block's layout has.

    They are views of one buffer of ``nbytes``.
    """

    blocks: tuple[Mapping[str, Branch], ...]
    nbytes: int


def load_lora(contents: LoraContents, tensors: LoraTensors, buffer: Tensor, layers: int) -> LoadedLora:
    """Fill ``buffer`` ([contents.parameters], compute type, on the device) and return it as branches.

    Raises ModelUnsupported where the file is damaged.
    """
    sorted_out: list[dict[str, list[Pair]]] = [{} for _ in range(layers)]
    for pair in contents.linears:
        sorted_out[pair.block].setdefault(_PLACES[pair.module][0], []).append(pair)
    sizes = [size for block in sorted_out for pairs in block.values() for size in _sizes(pairs)]
    rest = iter(torch.split(buffer, sizes))
    blocks = tuple({name: _branch(pairs, tensors, rest) for name, pairs in block.items()} for block in sorted_out)
    return LoadedLora(blocks, buffer.nbytes)


def _sizes(pairs: Sequence[Pair]) -> list[int]:
    """Numbers in the stacked ``down`` of a packed linear, then in each ``up``."""
    return [sum(pair.rank * pair.inputs for pair in pairs), *(pair.outputs * pair.rank for pair in pairs)]


def _branch(pairs: Sequence[Pair], tensors: LoraTensors, parts: Iterator[Tensor]) -> Branch:
    """Stack the branches of the modules of one packed linear: one product with ``down`` serves them all."""
    stacked = next(parts).view(-1, pairs[0].inputs)
    shares: list[LowRankShare] = []
    first = 0
    for pair in pairs:
        ranks = slice(first, first + pair.rank)
        down, up = tensors.pair(pair)
        stacked[ranks] = down
        held = next(parts).view(pair.outputs, pair.rank)
        held.copy_(up)
        place = _PLACES[pair.module][1]
        shares.append(LowRankShare(slice(place * pair.outputs, (place + 1) * pair.outputs), ranks, held))
        first += pair.rank
    return Branch(stacked, tuple(shares))

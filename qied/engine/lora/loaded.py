"""One LoRA on the device: its branches, stacked as the packed linears of a block are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.lora.tensors import LoraTensors
from qied.engine.ops.low_rank import BiasShare, Branch, KroneckerShare, LowRankShare
from qied.loras.changes import Change
from qied.loras.contents import LoraContents
from qied.planning.layout.block_layout import BlockShape, linears

_PLACES = {
    module: (linear.name, place)
    for linear in linears(BlockShape(1, 1, 1))
    for place, module in enumerate(linear.modules)
}
"""Where each module lies: the packed linear, and which of its equal parts."""


@dataclass(frozen=True)
class LoadedLora:
    """The branches of a LoRA: for each block those of its packed linears, by the names that the block's layout has.

    ``around`` are those of the linears around the blocks, by their names. All are views of one buffer of ``nbytes``.
    """

    blocks: tuple[Mapping[str, Branch], ...]
    around: Mapping[str, Branch]
    nbytes: int


def load_lora(contents: LoraContents, tensors: LoraTensors, buffer: Tensor, layers: int) -> LoadedLora:
    """Fill ``buffer`` ([contents.parameters], compute type, on the device) and return it as branches.

    Raises ModelUnsupported where the file is damaged, or changes a norm.
    """
    tensors.check_zero(contents.norms)
    sorted_out: list[dict[str, list[Change]]] = [{} for _ in range(layers)]
    for change in contents.linears:
        assert change.block is not None
        sorted_out[change.block].setdefault(_PLACES[change.module][0], []).append(change)
    around = {change.module: [change] for change in contents.around}
    groups = [*(changes for block in sorted_out for changes in block.values()), *around.values()]
    rest = iter(torch.split(buffer, [size for changes in groups for size in _sizes(changes)]))
    blocks = tuple({name: fill_branch(each, tensors, rest) for name, each in block.items()} for block in sorted_out)
    return LoadedLora(blocks, {name: fill_branch(each, tensors, rest) for name, each in around.items()}, buffer.nbytes)


def load_alone(change: Change, tensors: LoraTensors, buffer: Tensor) -> Branch:
    """Fill ``buffer`` ([change.parameters], compute type) with one change and return it as a branch."""
    return fill_branch([change], tensors, iter(torch.split(buffer, _sizes([change]))))


def _sizes(changes: Sequence[Change]) -> list[int]:
    """Numbers in the stacked ``down`` of a packed linear, then in each other tensor of its branch."""
    low_rank = [change for change in changes if change.factors is None]
    kroneckers = [size for change in changes if change.factors is not None for size in change.matrix_sizes]
    biases = [change.outputs for change in changes if "bias" in change.tensors]
    downs, ups = ([change.matrix_sizes[side] for change in low_rank] for side in (0, 1))
    return [sum(downs), *ups, *kroneckers, *biases]


def fill_branch(changes: Sequence[Change], tensors: LoraTensors, parts: Iterator[Tensor]) -> Branch:
    """Stack the changes of the modules of one packed linear: one product with ``down`` serves all that are low-rank."""
    low_rank = [change for change in changes if change.factors is None]
    stacked = next(parts).view(-1, changes[0].inputs)
    shares: list[LowRankShare] = []
    first = 0
    for change in low_rank:
        ranks = slice(first, first + change.rank)
        down, up = tensors.matrices(change)
        stacked[ranks] = down
        shares.append(LowRankShare(_outputs(change), ranks, _filled(next(parts), up)))
        first += change.rank
    kroneckers = [
        KroneckerShare(_outputs(change), *(_filled(next(parts), factor) for factor in tensors.matrices(change)))
        for change in changes
        if change.factors is not None
    ]
    biases = [
        BiasShare(_outputs(change), _filled(next(parts), bias))
        for change in changes
        if (bias := tensors.bias(change)) is not None
    ]
    return Branch(stacked, tuple(share for share in shares if share.up.numel()), tuple(kroneckers), tuple(biases))


def _filled(part: Tensor, values: Tensor) -> Tensor:
    part.view(values.shape).copy_(values)
    return part.view(values.shape)


def _outputs(change: Change) -> slice:
    """Where the outputs of a module lie among those of its packed linear."""
    place = _PLACES[change.module][1] if change.module in _PLACES else 0
    return slice(place * change.outputs, (place + 1) * change.outputs)

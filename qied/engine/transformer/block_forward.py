"""One transformer block's forward, on the residual streams of one prompt in an arena."""

from __future__ import annotations

from torch import Tensor

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights
from qied.engine.lora.branches import NO_LORAS, BlockLoras
from qied.engine.ops.fp8_attention import Fp8Attention
from qied.engine.ops.operations import JointRows, Operations, StreamLinear, norm_rows
from qied.engine.weights.quantise import E4M3


def run_block(
    operations: Operations,
    weights: BlockWeights,
    region: Region,
    workspace: Workspace,
    block: int,
    loras: BlockLoras = NO_LORAS,
) -> None:
    """Take a region through block number ``block``, with what ``loras`` add to its linears.

    What the MLP adds is left in the region's update, for the norm that comes next to add. Of the last block only the
    target is finished: nothing reads the other tokens any more.
    """
    attended = _attend(operations, weights, region, workspace, block, loras)
    first, stop = norm_rows(region, block, "mlp")
    text = max(0, region.tokens.text - first)
    prepared = operations.prepare(attended, text, workspace, keep=bool(loras.text.out or loras.image.out))
    sides = StreamLinear(weights.text.out, loras.text.out), StreamLinear(weights.image.out, loras.image.out)
    operations.linear(prepared, *sides, region.update[first:stop], workspace)
    del attended, prepared
    keep = bool(loras.text.up or loras.image.up)
    normed = operations.norm(region, workspace, block, weights.number, "mlp", keep=keep)
    for start, end in region.tokens.spans():
        low, high = max(start, first), min(end, stop)
        if low < high:
            part = normed.rows(low - first, high - first)
            _mlp(operations, weights, part, region.update[low:high], workspace, loras)


def _attend(
    operations: Operations,
    weights: BlockWeights,
    region: Region,
    workspace: Workspace,
    block: int,
    loras: BlockLoras,
) -> Tensor:
    """Return the attention over all tokens [tokens, D], in FP8 E4M3; of the last block the target's only."""
    keep = bool(loras.text.qkv or loras.image.qkv)
    normed = operations.norm(region, workspace, block, weights.number, "attention", keep=keep)
    qkv = workspace.qkv[: region.tokens.all]
    sides = StreamLinear(weights.text.qkv, loras.text.qkv), StreamLinear(weights.image.qkv, loras.image.qkv)
    operations.linear(normed, *sides, qkv, workspace)
    first, stop = norm_rows(region, block, "mlp")
    if operations.fp8_attention is not None:
        return _attend_in_fp8(operations, operations.fp8_attention, qkv, weights, region, workspace, first, stop)
    operations.heads(qkv, region, weights)
    q, k, v = qkv.view(len(qkv), 3, -1, region.rotation.shape[1]).unbind(1)
    return operations.attention(q[first:stop], k, v)


def _attend_in_fp8(
    operations: Operations,
    attention: Fp8Attention,
    qkv: Tensor,
    weights: BlockWeights,
    region: Region,
    workspace: Workspace,
    first: int,
    stop: int,
) -> Tensor:
    """Return the attention of these rows in E4M3, at the place of quantised inputs: QKV's own is over."""
    operations.quantised_heads(qkv, region, weights, workspace)
    assert workspace.heads is not None and workspace.attention_scales is not None and workspace.quantised is not None
    size = region.rotation.shape[1]
    attended = workspace.quantised[: stop - first].view(E4M3)
    heads = workspace.heads[: len(qkv)].view(len(qkv), 3, -1, size)
    attention(heads, first, workspace.attention_scales, attended.view(len(attended), -1, size))
    return attended


def _mlp(
    operations: Operations,
    weights: BlockWeights,
    normed: JointRows,
    update: Tensor,
    workspace: Workspace,
    loras: BlockLoras,
) -> None:
    """Write to ``update`` [rows, D] what the MLPs make of these rows."""
    wide = workspace.wide[: len(update)]
    up = StreamLinear(weights.text.up, loras.text.up), StreamLinear(weights.image.up, loras.image.up)
    operations.linear(normed, *up, wide, workspace)
    text = 0 if normed.text is None else len(normed.text.values)
    activation = operations.activate(wide, text, workspace, keep=bool(loras.text.down or loras.image.down))
    down = StreamLinear(weights.text.down, loras.text.down), StreamLinear(weights.image.down, loras.image.down)
    operations.linear(activation, *down, update, workspace)

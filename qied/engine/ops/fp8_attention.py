"""Attention in FP8 (E4M3): which scales it has, what makes its input, and what computes it without cuDNN.

Queries and keys are divided by a bound of theirs, which no data has to be looked at for: an RMS-normalised head is as
long as the root of its size, no rotation changes that, and the norm's weights are known. Values are divided by their
largest magnitude. Results are means of rows of values, so the values' scale is also theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import structlog
import torch
from torch import Tensor

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights
from qied.engine.ops.norms import rotated
from qied.engine.ops.operations import JointRows, joint
from qied.engine.weights.quantise import E4M3, E4M3_MAX, row_chunks

Expand = Callable[[Tensor, Tensor, Tensor], None]
"""Writes E4M3 values times their scale to a tensor of the compute type."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Returns [queries, heads * size] from q [queries, heads, size] and k, v [keys, heads, size]."""

EXPANDED_HEADS = 4
"""Heads that are expanded at once: 26 MB of a megapixel with one reference."""
SMALLEST_BOUND = 1e-12
"""What would be divided by zero is divided by this."""
LARGEST_VALUE = 416.0
"""What the largest magnitude of the values becomes: a mean of them whose weights were rounded up still fits E4M3."""


class ScaleRow(IntEnum):
    """Rows of the workspace's ``attention_scales``, whose first columns count.

    Q, K and V times their number are whole; weights are multiplied by WEIGHT and then by UNWEIGHT; results were
    multiplied by RESULT, so that V's makes them whole. The last two are what cuDNN tells of the largest magnitudes.
    """

    Q = 0
    K = 1
    V = 2
    UNWEIGHT = 3
    WEIGHT = 4
    RESULT = 5
    LARGEST_WEIGHT = 6
    LARGEST_RESULT = 7


class Fp8Attention(Protocol):
    """Computes attention in FP8."""

    def __call__(self, heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        """Write to ``out`` E4M3 [queries, heads, size] the attention of the queries from row ``first`` on.

        ``heads`` is E4M3 [rows, 3, heads, size], ``scales`` FP32 as :class:`ScaleRow` says. Nothing waits for the
        device.
        """


class Fp8AttentionUnavailable(RuntimeError):
    """Attention in FP8 does not run here, or not for some number of rows."""


class SimulatedFp8Attention:
    """What cuDNN computes, where it does not run: the same casts, multiplied in FP32."""

    def __call__(self, heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        scale = scales[:, 0]
        sharpness = scale[ScaleRow.Q] * scale[ScaleRow.K] * heads.shape[-1] ** -0.5
        factor = scale[ScaleRow.UNWEIGHT] * scale[ScaleRow.V] * scale[ScaleRow.RESULT]
        for head in range(heads.shape[2]):
            keys, values = heads[:, 1, head].float(), heads[:, 2, head].float()
            for rows in row_chunks(len(out), len(heads)):
                queries = heads[first + rows.start : first + rows.stop, 0, head].float()
                scores = queries @ keys.t() * sharpness
                weights = scores.sub_(scores.amax(1, keepdim=True)).exp_()
                sums = weights.sum(1, keepdim=True)
                low = weights.mul_(scale[ScaleRow.WEIGHT]).to(E4M3).float()
                result = (low @ values).mul_(factor).div_(sums)
                out[rows, head] = result.clamp_(-E4M3_MAX, E4M3_MAX)


class ExpandedAttention:
    """Attention in 16 bits of heads in E4M3, a few heads at a time so that what they are expanded to stays small."""

    def __init__(self, attention: Attend) -> None:
        self._attention = attention

    def __call__(self, heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        sharpness = scales[ScaleRow.Q, 0] * scales[ScaleRow.K, 0]
        rows = slice(first, first + len(out))
        for begin in range(0, heads.shape[2], EXPANDED_HEADS):
            some = slice(begin, begin + EXPANDED_HEADS)
            queries, keys, values = heads[:, :, some].to(torch.bfloat16).unbind(1)
            attended = self._attention(queries[rows] * sharpness, keys, values)
            # The values' scale is the result's, so that it needs none of its own.
            out[:, some] = attended.view(out[:, some].shape).clamp_(-E4M3_MAX, E4M3_MAX)


class Fp8AttentionOfAnyRows:
    """Another attention in FP8, and one in 16 bits for the numbers of rows that it refuses."""

    def __init__(self, kernel: Fp8Attention, attention: Attend) -> None:
        self.kernel = kernel
        self._expanded = ExpandedAttention(attention)
        self._refused: set[tuple[int, int]] = set()

    def __call__(self, heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        rows = (len(out), len(heads))
        if rows not in self._refused:
            try:
                self.kernel(heads, first, scales, out)
                return
            except Fp8AttentionUnavailable as error:
                self._refused.add(rows)
                structlog.get_logger(part="operations").warning(
                    "cuDNN has no FP8 attention for this shape, using 16 bits", reason=str(error)
                )
        self._expanded(heads, first, scales, out)


def quantise_heads(qkv: Tensor, region: Region, weights: BlockWeights, workspace: Workspace) -> None:
    """See ``Operations.quantised_heads``; by torch's own kernels."""
    assert workspace.heads is not None and workspace.attention_scales is not None
    head_dim, text, count = region.rotation.shape[1], region.tokens.text, len(qkv)
    steps = workspace.attention_scales[:, 0]
    steps[ScaleRow.Q] = _bound(weights.text.q_norm, weights.image.q_norm) / E4M3_MAX
    steps[ScaleRow.K] = _bound(weights.text.k_norm, weights.image.k_norm) / E4M3_MAX
    put_value_scales(steps, largest_value(qkv))
    parts = qkv.view(count, 3, -1, head_dim)
    out = workspace.heads[:count].view(parts.shape)
    for begin, end, stream in ((0, text, weights.text), (text, count, weights.image)):
        for part, norm in ((0, stream.q_norm), (1, stream.k_norm), (2, None)):
            for chunk in row_chunks(end - begin, parts.shape[2] * head_dim):
                rows = slice(begin + chunk.start, begin + chunk.stop)
                x = parts[rows, part].float()
                whole = x if norm is None else rotated(x, norm, region.rotation[rows], torch.float32)
                out[rows, part] = whole.div_(steps[part]).clamp_(-E4M3_MAX, E4M3_MAX)


def largest_value(qkv: Tensor) -> Tensor:
    """Largest magnitude of the values in QKV [rows, 3D]; NaN where one of them is."""
    values = qkv[:, qkv.shape[1] // 3 * 2 :]
    found: Tensor = torch.linalg.vector_norm(values, torch.inf, dim=(0, 1))
    return found


def put_value_scales(steps: Tensor, largest: Tensor) -> None:
    """Put all scales but those of queries and keys to ``steps`` [scales], by the largest magnitude of the values."""
    steps[ScaleRow.V] = largest.float().clamp_min(SMALLEST_BOUND) / LARGEST_VALUE
    steps[ScaleRow.UNWEIGHT] = 1 / E4M3_MAX
    steps[ScaleRow.WEIGHT] = E4M3_MAX
    steps[ScaleRow.RESULT] = 1 / steps[ScaleRow.V]


def taken_over(attended: Tensor, text_rows: int, workspace: Workspace, expand: Expand | None) -> JointRows:
    """Make the result of an attention in FP8, which lies in ``workspace.quantised``, the input of a linear as it is.

    With ``expand`` it is also there in the compute type, where QKV was.
    """
    assert workspace.scale is not None
    step = attention_step(workspace)
    workspace.scale.copy_(step)
    plain = None
    if expand is not None:
        plain = place_of_kept(attended, workspace)
        expand(attended, step, plain)
    return joint(attended, workspace.scale, text_rows, plain)


def attention_step(workspace: Workspace) -> Tensor:
    """What makes the result of an attention in FP8 whole, FP32 [1]."""
    assert workspace.attention_scales is not None
    return workspace.attention_scales[ScaleRow.V, :1]


def place_of_kept(attended: Tensor, workspace: Workspace) -> Tensor:
    """Where the result of an attention in FP8 goes in the compute type: QKV is over."""
    return workspace.qkv.view(-1)[: attended.numel()].view(attended.shape)


def _bound(*norms: Tensor) -> Tensor:
    """The largest magnitude that a head can have behind its norm, and any rotation."""
    largest = torch.cat(norms).float().abs().amax()
    bound: Tensor = largest * float(len(norms[0]) ** 0.5)
    return bound.clamp_min(SMALLEST_BOUND)

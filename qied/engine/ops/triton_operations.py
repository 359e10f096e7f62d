"""The operations by fused Triton kernels, with the products and the attention of torch's libraries; for CUDA."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights
from qied.engine.ops import triton_kernels as kernels
from qied.engine.ops.attention import Attention
from qied.engine.ops.fp8_attention import (
    LARGEST_VALUE,
    SMALLEST_BOUND,
    Fp8Attention,
    attention_step,
    place_of_kept,
    taken_over,
)
from qied.engine.ops.linear import LinearKind, apply_sides
from qied.engine.ops.operations import (
    ATTENTION_GATE,
    MLP_GATE,
    NORM_EPSILON,
    SHIFT,
    JointRows,
    NormPlace,
    StreamLinear,
    joint,
    norm_rows,
)
from qied.engine.weights.quantise import E4M3, quantise_into
from qied.planning.layout.forward_layout import scale_begin

_EXPAND_BLOCK = 4096
_HEADS_AT_ONCE = 8
_ROWS_AT_ONCE = 16
"""Rows in which one program looks for the largest value."""
_WARPS = 8
"""Of a program that has a row: measured best on one H100 for 3072 columns and for 12288."""


_FORMS = {"plain": kernels.PLAIN, "tensorwise": kernels.PLAIN, "rowwise": kernels.ROWWISE, "int8": kernels.INT8}


class TritonOperations:
    """See :class:`Operations`."""

    def __init__(self, linears: LinearKind, attention: Attention, fp8_attention: Fp8Attention | None = None) -> None:
        self._linears = linears
        self._attention = attention
        self.fp8_attention = fp8_attention
        self._form = _FORMS[linears.form]

    def norm(
        self, region: Region, workspace: Workspace, block: int, number: Tensor, half: NormPlace, *, keep: bool = False
    ) -> JointRows:
        """See :class:`Operations`; in the compute type the result lies where the update was."""
        first, stop = norm_rows(region, block, half)
        tokens, width = region.tokens, region.residual.shape[1]
        text = max(0, tokens.text - first)
        is_out = half == "out"
        form = kernels.PLAIN if is_out else self._form
        memory = (None, None) if is_out else (workspace.quantised, workspace.scale)
        quantised, scale = _targets(region.update, *memory)
        gate = ATTENTION_GATE if half == "mlp" else MLP_GATE if block > 0 else 0
        kernels.norm_kernel[(stop - first,)](
            region.residual,
            region.update,
            region.modulation,
            number,
            quantised,
            scale,
            first,
            tokens.text,
            tokens.text + tokens.target,
            scale_begin(text) - text,
            D=width,
            BLOCK=triton.next_power_of_2(width),
            GATE=gate,
            SHIFT=SHIFT[half],
            EPSILON=NORM_EPSILON,
            FORM=form,
            KEEP=keep,
            LEVELS=_levels(workspace),
            num_warps=_WARPS,
            # LLVM narrows what is rounded in between to BF16, and would make one rounding of a product's and its sum's.
            enable_fp_fusion=form != kernels.PLAIN,
        )
        plain = region.update[first:stop]
        return joint(plain, None, text, plain) if is_out else self._input(plain, text, quantised, scale, keep)

    def heads(self, qkv: Tensor, region: Region, weights: BlockWeights) -> None:
        size = region.rotation.shape[1]
        heads = qkv.shape[1] // (3 * size)
        at_once = min(_HEADS_AT_ONCE, triton.next_power_of_2(heads))
        kernels.heads_kernel[(len(qkv), triton.cdiv(heads, at_once))](
            qkv,
            region.rotation,
            weights.text.q_norm,
            weights.text.k_norm,
            weights.image.q_norm,
            weights.image.k_norm,
            region.tokens.text,
            HEADS=heads,
            AT_ONCE=at_once,
            SIZE=size,
            EPSILON=NORM_EPSILON,
            FORM=self._form,
            num_warps=4,
        )

    def quantised_heads(self, qkv: Tensor, region: Region, weights: BlockWeights, workspace: Workspace) -> None:
        assert workspace.heads is not None and workspace.attention_scales is not None
        size = region.rotation.shape[1]
        heads = qkv.shape[1] // (3 * size)
        at_once = min(_HEADS_AT_ONCE, triton.next_power_of_2(heads))
        kernels.quantised_heads_kernel[(len(qkv), triton.cdiv(heads, at_once))](
            qkv,
            region.rotation,
            weights.text.q_norm,
            weights.text.k_norm,
            weights.image.q_norm,
            weights.image.k_norm,
            _largest_value(qkv),
            workspace.heads,
            workspace.attention_scales,
            region.tokens.text,
            HEADS=heads,
            AT_ONCE=at_once,
            SIZE=size,
            LENGTH=size**0.5,
            EPSILON=NORM_EPSILON,
            LARGEST_VALUE=LARGEST_VALUE,
            SMALLEST=SMALLEST_BOUND,
            num_warps=4,
        )

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self._attention(q, k, v)

    def prepare(self, attended: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        in_fp8 = attended.dtype == E4M3
        if in_fp8 and self._form != kernels.INT8:
            return taken_over(attended, text_rows, workspace, expand if keep else None)
        quantised, scale = _targets(attended, workspace.quantised, workspace.scale)
        factor, plain = (attention_step(workspace), place_of_kept(attended, workspace)) if in_fp8 else (None, attended)
        if self._form != kernels.PLAIN:
            kept = in_fp8 and keep
            self._make_input(attended, factor, plain, text_rows, quantised, scale, workspace, gelu=False, keep=kept)
        return self._input(plain, text_rows, quantised, scale, keep or not in_fp8)

    def activate(self, wide: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        quantised, scale = _targets(wide, workspace.wide_quantised, workspace.wide_scale)
        self._make_input(wide, None, wide, text_rows, quantised, scale, workspace, gelu=True, keep=keep)
        return self._input(wide, text_rows, quantised, scale, keep)

    def linear(self, x: JointRows, text: StreamLinear, image: StreamLinear, out: Tensor, workspace: Workspace) -> None:
        apply_sides(self._linears, x, text, image, out, workspace)

    def _make_input(
        self,
        x: Tensor,
        factor: Tensor | None,
        plain: Tensor,
        text_rows: int,
        quantised: Tensor,
        scale: Tensor,
        workspace: Workspace,
        *,
        gelu: bool,
        keep: bool,
    ) -> None:
        width = x.shape[1]
        kernels.input_kernel[(len(x),)](
            x,
            x if factor is None else factor,
            plain,
            quantised,
            scale,
            text_rows,
            scale_begin(text_rows) - text_rows,
            WIDTH=width,
            BLOCK=triton.next_power_of_2(width),
            GELU=gelu,
            FACTOR=factor is not None,
            FORM=self._form,
            KEEP=keep,
            LEVELS=_levels(workspace),
            num_warps=_WARPS,
        )

    def _input(self, plain: Tensor, text_rows: int, quantised: Tensor, scale: Tensor, keep: bool) -> JointRows:
        """What a kernel made of rows, as the input of linears."""
        if self._form != kernels.PLAIN:
            return joint(quantised[: len(plain)], scale, text_rows, plain if keep else None)
        return joint(plain, None, text_rows, plain)


class TensorwiseOperations(TritonOperations):
    """The same with one scale for all rows of a stream: kernels make the compute type, which torch then quantises."""

    def _input(self, plain: Tensor, text_rows: int, quantised: Tensor, scale: Tensor, keep: bool) -> JointRows:
        made = joint(quantised[: len(plain)], scale, text_rows, plain)
        for part in (made.text, made.image):
            if part is not None:
                assert part.plain is not None and part.scale is not None
                quantise_into(part.plain, "tensorwise", part.values, part.scale)
        return made


def expand(values: Tensor, scale: Tensor, out: Tensor) -> None:
    """Write E4M3 values [rows, columns] times their scale FP32 ([rows] or [1]) to ``out``, rounded once."""
    kernels.expand_kernel[(triton.cdiv(values.numel(), _EXPAND_BLOCK),)](
        values.view(torch.uint8),
        scale,
        out,
        values.numel(),
        COLUMNS=values.shape[1],
        PER_ROW=len(scale) > 1,
        BLOCK=_EXPAND_BLOCK,
        num_warps=8,
    )


def _levels(workspace: Workspace) -> int:
    """The logarithm to base 4 of how many inputs are rotated together."""
    return (workspace.rotation_group.bit_length() - 1) // 2


def _largest_value(qkv: Tensor) -> Tensor:
    """The largest magnitude of the values in QKV [rows, 3D]: int32 [1], bits of FP32."""
    width = qkv.shape[1] // 3
    largest = torch.zeros(1, dtype=torch.int32, device=qkv.device)
    kernels.largest_value_kernel[(triton.cdiv(len(qkv), _ROWS_AT_ONCE),)](
        qkv,
        largest,
        len(qkv),
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        ROWS=_ROWS_AT_ONCE,
        num_warps=_WARPS,
    )
    return largest


def _targets(plain: Tensor, quantised: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where a kernel puts E4M3 or INT8 and scales; where it puts none, any tensor will do."""
    return (plain, plain) if quantised is None or scale is None else (quantised, scale)

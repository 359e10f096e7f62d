"""The operations by torch's own kernels, on every device: what they are meant to compute."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights
from qied.engine.ops.attention import Attention
from qied.engine.ops.fp8_attention import Fp8Attention, attention_step, place_of_kept, quantise_heads, taken_over
from qied.engine.ops.linear import BY_ROW, Form, LinearKind, apply_sides
from qied.engine.ops.norms import modulated_norm, rotated_norm
from qied.engine.ops.operations import (
    ATTENTION_GATE,
    MLP_GATE,
    SHIFT,
    JointRows,
    NormPlace,
    StreamLinear,
    joint,
    norm_rows,
)
from qied.engine.weights.quantise import E4M3, dequantise_into, quantise_into, rotate_to_int8_into, row_chunks


class TorchOperations:
    """See :class:`Operations`."""

    def __init__(self, linears: LinearKind, attention: Attention, fp8_attention: Fp8Attention | None = None) -> None:
        self._linears = linears
        self._attention = attention
        self.fp8_attention = fp8_attention

    def norm(
        self, region: Region, workspace: Workspace, block: int, number: Tensor, half: NormPlace, *, keep: bool = False
    ) -> JointRows:
        """See :class:`Operations`; in the compute type the result lies where the update was."""
        first, stop = norm_rows(region, block, half)
        form: Form = "plain" if half == "out" else self._linears.form
        text = max(0, region.tokens.text - first)
        memory = workspace.quantised, workspace.scale
        result = _Result(form, region.update[first:stop], text, *memory, keep, workspace.rotation_group)
        dtype = torch.float32 if form in BY_ROW else region.residual.dtype
        for rows, kind in _alike(region, first, stop):
            modulation, x = region.modulation[block, kind], region.residual[rows]
            gate = _gate(region, block, kind, half)
            if gate is not None:
                x.copy_(x.to(dtype) + region.update[rows].to(dtype) * gate.to(dtype))
            shift, scale = modulation[SHIFT[half] : SHIFT[half] + 2]
            result.put(rows.start - first, modulated_norm(x.to(dtype), shift, scale))
        return result.finished()

    def heads(self, qkv: Tensor, region: Region, weights: BlockWeights) -> None:
        head_dim, text = region.rotation.shape[1], region.tokens.text
        dtype = torch.float32 if self._linears.form in BY_ROW else qkv.dtype
        queries, keys, _ = qkv.view(len(qkv), 3, -1, head_dim).unbind(1)
        for rows, stream in ((slice(0, text), weights.text), (slice(text, len(qkv)), weights.image)):
            rotated_norm(queries[rows], stream.q_norm, region.rotation[rows], dtype)
            rotated_norm(keys[rows], stream.k_norm, region.rotation[rows], dtype)

    def quantised_heads(self, qkv: Tensor, region: Region, weights: BlockWeights, workspace: Workspace) -> None:
        quantise_heads(qkv, region, weights, workspace)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self._attention(q, k, v)

    def prepare(self, attended: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        form, plain = self._linears.form, attended
        if attended.dtype == E4M3:
            if form != "int8":
                return taken_over(attended, text_rows, workspace, dequantise_into if keep else None)
            plain = place_of_kept(attended, workspace)
            dequantise_into(attended, attention_step(workspace), plain)
        memory = workspace.quantised, workspace.scale
        result = _Result(form, plain, text_rows, *memory, True, workspace.rotation_group)
        for rows in _chunks(plain, text_rows):
            result.put(rows.start, plain[rows])
        return result.finished()

    def activate(self, wide: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        form = self._linears.form
        memory = workspace.wide_quantised, workspace.wide_scale
        result = _Result(form, wide, text_rows, *memory, keep, workspace.rotation_group)
        for rows in _chunks(wide, text_rows):
            result.put(rows.start, functional.gelu(wide[rows].float(), approximate="tanh"))
        return result.finished()

    def linear(self, x: JointRows, text: StreamLinear, image: StreamLinear, out: Tensor, workspace: Workspace) -> None:
        apply_sides(self._linears, x, text, image, out, workspace)


class _Result:
    """The input of a linear while it is made, a few rows at a time.

    ``plain`` [rows, inputs] is where it lies in the compute type; quantised, it goes to ``quantised`` and ``scale``.
    """

    def __init__(
        self,
        form: Form,
        plain: Tensor,
        text_rows: int,
        quantised: Tensor | None,
        scale: Tensor | None,
        keep: bool,
        group: int,
    ) -> None:
        self._form = form
        self._group = group
        self._text_rows = text_rows
        self._writes_plain = keep or form not in BY_ROW
        if form == "plain":
            self._made = joint(plain, None, text_rows, plain)
        else:
            assert quantised is not None and scale is not None
            self._made = joint(quantised[: len(plain)], scale, text_rows, plain)

    def put(self, first: int, values: Tensor) -> None:
        """Put values to the rows from ``first`` on, all of them text or all of them image."""
        is_text = first < self._text_rows
        part = self._made.text if is_text else self._made.image
        start = first if is_text else first - self._text_rows
        assert part is not None and part.plain is not None
        rows = part.rows(start, start + len(values))
        assert rows.plain is not None
        if self._writes_plain:
            rows.plain.copy_(values)
        if self._form in BY_ROW:
            assert rows.scale is not None
            if self._form == "int8":
                rotate_to_int8_into(values, self._group, rows.values, rows.scale)
            else:
                quantise_into(values, "rowwise", rows.values, rows.scale)

    def finished(self) -> JointRows:
        """The whole, once every row was put; per tensor, scales are known only now."""
        if self._form == "tensorwise":
            for part in (self._made.text, self._made.image):
                if part is not None:
                    assert part.plain is not None and part.scale is not None
                    quantise_into(part.plain, "tensorwise", part.values, part.scale)
        return self._made if self._writes_plain else self._made.without_plain()


def _gate(region: Region, block: int, kind: int, half: NormPlace) -> Tensor | None:
    """The gate [D] of the update that is due, if one is."""
    if half == "mlp":
        return region.modulation[block, kind, ATTENTION_GATE]
    return region.modulation[block - 1, kind, MLP_GATE] if block > 0 else None


def _chunks(x: Tensor, text_rows: int) -> Iterator[slice]:
    """Rows in pieces whose FP32 copies stay small, none of which has both text and image."""
    for begin, end in ((0, text_rows), (text_rows, len(x))):
        for chunk in row_chunks(end - begin, x.shape[1]):
            yield slice(begin + chunk.start, begin + chunk.stop)


def _alike(region: Region, first: int, stop: int) -> Iterator[tuple[slice, int]]:
    """Pieces of rows that are modulated alike, with their kind."""
    tokens = region.tokens
    begin = 0
    for kind, end in enumerate((tokens.text, tokens.text + tokens.target, tokens.all)):
        low, high = max(begin, first), min(end, stop)
        for chunk in row_chunks(max(0, high - low), region.residual.shape[1]):
            yield slice(low + chunk.start, low + chunk.stop), kind
        begin = end

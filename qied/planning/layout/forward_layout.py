"""How the temporaries of a forward lie in memory: every tensor of them in one flat arena, as names, shapes and offsets.

A sweep has one region for each of its forwards, which lasts from block to block, and one workspace that the blocks of
all of them use in turns. Nothing else of a size that matters is allocated while blocks run, but the result of the
attention (``attention_bytes``), which torch allocates itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from qied.planning.layout.block_layout import (
    ALIGNMENT,
    ELEMENT_BYTES,
    STORED_AS,
    BlockShape,
    Compute,
    ElementType,
    LayoutEntry,
    Precision,
)

SPAN_TOKENS = 8192
"""Image tokens, a multiple of SCALE_ALIGNMENT, that go through an MLP together at most.

Enough to fill any card, and the MLP's width stays small.
"""
KINDS = 3
"""Kinds of tokens that are modulated each in their way: text, target, references."""
VALUES = 6
"""Rows of a block's modulation for one kind: shift, scale, gate of the attention, then of the MLP."""
ATTENTION_SCALES = (8, 4)
"""Scales of an attention in FP8, and what else its kernel writes: each alone in 16 bytes."""


SCALE_ALIGNMENT = ALIGNMENT // ELEMENT_BYTES["fp32"]
"""Elements to which the image's scales are aligned behind the text's: FP8 kernels ask for an aligned beginning."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one forward in the order in which they lie: text, target, references."""

    text: int
    target: int
    reference: int

    @property
    def image(self) -> int:
        """Target and references."""
        return self.target + self.reference

    @property
    def all(self) -> int:
        """Text and image."""
        return self.text + self.image

    def spans(self) -> list[tuple[int, int]]:
        """Cut all tokens into (first, last + 1) for the MLPs; the text goes with the first part of the image.

        Parts of the image are about equal, and begin where scales may: FP8 kernels ask for an aligned beginning.
        """
        count = max(1, -(-self.image // SPAN_TOKENS))
        cuts = [_aligned(self.image * part // count, SCALE_ALIGNMENT) for part in range(1, count)]
        ends = [self.text + cut for cut in (*cuts, self.image)]
        return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True)
class TransformerShape:
    """How a transformer computes: its blocks' widths and number, and the types of weights and activations.

    ``fp8_attention`` says that the attention is in FP8 as well, which needs FP8 or INT8 weights.
    """

    block: BlockShape
    layers: int
    precision: Precision
    compute: Compute
    fp8_attention: bool = False


@dataclass(frozen=True)
class ArenaLayout:
    """The arena of a sweep; offsets of entries count from its beginning."""

    workspace: tuple[LayoutEntry, ...]
    regions: tuple[tuple[LayoutEntry, ...], ...]
    nbytes: int


def arena_layout(shape: TransformerShape, forwards: Sequence[Tokens], lora_width: int = 0) -> ArenaLayout:
    """Lay out the arena of a sweep; LoRAs have up to ``lora_width`` values of a token between their two matrices."""
    workspace, end = workspace_entries(shape, forwards, lora_width)
    regions = []
    for tokens in forwards:
        entries, end = _placed(_region(shape, tokens), end)
        regions.append(entries)
    return ArenaLayout(workspace, tuple(regions), end)


def region_bytes(shape: TransformerShape, tokens: Tokens) -> int:
    """Bytes that one more forward takes in a sweep."""
    return _placed(_region(shape, tokens), 0)[1]


def attention_bytes(shape: TransformerShape, tokens: Tokens) -> int:
    """Bytes of an attention's result, and of the sums of its softmax, FP32 for each head and token."""
    heads = shape.block.inner_dim // shape.block.head_dim
    return tokens.all * (shape.block.inner_dim * ELEMENT_BYTES[shape.compute] + heads * ELEMENT_BYTES["fp32"])


def workspace_entries(
    shape: TransformerShape, forwards: Sequence[Tokens], lora_width: int
) -> tuple[tuple[LayoutEntry, ...], int]:
    """The workspace that suffices for each of ``forwards``, and its end in bytes.

    QKV and the attention's result are over when the MLP begins, so the MLP's temporaries lie where those were.
    """
    block, compute = shape.block, shape.compute
    rows = max(tokens.all for tokens in forwards)
    # As if every image filled its spans: a smaller one, cut into fewer, must not need more than a larger one.
    wide_rows = max(tokens.text + min(tokens.image, SPAN_TOKENS) for tokens in forwards)
    padding = SCALE_ALIGNMENT
    always: list[tuple[str, ElementType, tuple[int, ...]]] = []
    wide: list[tuple[str, ElementType, tuple[int, ...]]] = [("wide", compute, (wide_rows, block.mlp_dim))]
    if shape.precision in ("fp8", "int8"):
        values = STORED_AS[shape.precision]
        always += [("quantised", values, (rows, block.inner_dim)), ("scale", "fp32", (rows + padding,))]
        wide += [("wide_quantised", values, (wide_rows, block.mlp_dim)), ("wide_scale", "fp32", (wide_rows + padding,))]
    if shape.precision == "fp8-storage":
        always.append(("expanded", compute, (block.mlp_dim * block.inner_dim,)))
    if lora_width:
        always.append(("low_rank", compute, (rows, lora_width)))
    common, start = _placed(always, 0)
    heads: list[tuple[str, ElementType, tuple[int, ...]]] = [("qkv", compute, (rows, 3 * block.inner_dim))]
    if shape.fp8_attention:
        heads += [("heads", "e4m3", (rows, 3 * block.inner_dim)), ("attention_scales", "fp32", ATTENTION_SCALES)]
    qkv, end = _placed(heads, start)
    mlp, other_end = _placed(wide, start)
    return (*common, *qkv, *mlp), max(end, other_end)


def scale_begin(text_rows: int) -> int:
    """Where the image's scales begin, behind those of so many rows of text."""
    return _aligned(text_rows, SCALE_ALIGNMENT)


def _region(shape: TransformerShape, tokens: Tokens) -> list[tuple[str, ElementType, tuple[int, ...]]]:
    block, compute = shape.block, shape.compute
    return [
        ("residual", compute, (tokens.all, block.inner_dim)),
        ("update", compute, (tokens.all, block.inner_dim)),
        ("rotation", "fp32", (tokens.all, block.head_dim)),
        # One more than there are blocks: shift and scale of the norm behind the last one.
        ("modulation", compute, (shape.layers + 1, KINDS, VALUES, block.inner_dim)),
    ]


def _placed(
    tensors: Iterable[tuple[str, ElementType, tuple[int, ...]]], start: int
) -> tuple[tuple[LayoutEntry, ...], int]:
    entries = []
    for name, dtype, dimensions in tensors:
        entries.append(LayoutEntry(name, dtype, dimensions, start))
        start = _aligned(start + prod(dimensions) * ELEMENT_BYTES[dtype], ALIGNMENT)
    return tuple(entries), start


def _aligned(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple

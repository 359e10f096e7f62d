"""One transformer block's forward, in place on the residual streams of one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from qied.engine.lora.branches import NO_LORAS, BlockLoras, StreamLoras
from qied.engine.modulation_table import StepModulation
from qied.engine.ops.operations import Operations
from qied.engine.packed_block import BlockWeights, StreamWeights
from qied.engine.rope import Rotation

CHUNK_TOKENS = 4096
"""Linears take at most this many tokens at a time: enough to fill a large card, and the MLP's width stays small."""


@dataclass(frozen=True)
class Streams:
    """The residual streams of one prompt: ``image`` [target and reference tokens, D], ``text`` [text tokens, D].

    The first ``target_tokens`` of the image are the target.
    """

    image: Tensor
    text: Tensor
    target_tokens: int
    rotation: Rotation


@dataclass(frozen=True)
class _Span:
    """Tokens that are modulated alike and go through the linears together; ``values`` is [6, D]."""

    rows: slice
    values: Tensor


def run_block(
    operations: Operations,
    weights: BlockWeights,
    streams: Streams,
    modulation: StepModulation,
    block: int,
    *,
    is_last: bool,
    loras: BlockLoras = NO_LORAS,
) -> None:
    """Take both streams through block number ``block``, with what ``loras`` add to its linears.

    Of the last block only the target is finished: nothing reads the other tokens any more.
    """
    image, text, targets = streams.image, streams.text, streams.target_tokens
    text_spans = list(_spans(0, len(text), modulation.text[block]))
    target_spans = list(_spans(0, targets, modulation.target[block]))
    image_spans = [*target_spans, *_spans(targets, len(image), modulation.reference[block])]
    attended = _attend(operations, weights, loras, streams, text_spans, image_spans, is_last=is_last)
    if is_last:
        _add_attention(operations, image, weights.image, loras.image, target_spans, attended)
        del attended
        _add_mlp(operations, image, weights.image, loras.image, target_spans)
        return
    _add_attention(operations, text, weights.text, loras.text, text_spans, attended[: len(text)])
    _add_attention(operations, image, weights.image, loras.image, image_spans, attended[len(text) :])
    del attended
    _add_mlp(operations, text, weights.text, loras.text, text_spans)
    _add_mlp(operations, image, weights.image, loras.image, image_spans)


def _attend(
    operations: Operations,
    weights: BlockWeights,
    loras: BlockLoras,
    streams: Streams,
    text_spans: Sequence[_Span],
    image_spans: Sequence[_Span],
    *,
    is_last: bool,
) -> Tensor:
    """Return the attention over text and image [text and image tokens, D]; of the last block the target's only."""
    image, text = streams.image, streams.text
    head_dim = weights.image.q_norm.numel()
    shape = (len(text) + len(image), image.shape[1] // head_dim, head_dim)
    q, k, v = image.new_empty(shape), image.new_empty(shape), image.new_empty(shape)
    for x, stream, branches, spans, rotation, first in (
        (text, weights.text, loras.text.qkv, text_spans, streams.rotation.text, 0),
        (image, weights.image, loras.image.qkv, image_spans, streams.rotation.image, len(text)),
    ):
        for span in spans:
            shift, scale, _ = span.values[:3]
            normed = operations.norm_modulate(x[span.rows], shift, scale, keep=bool(branches))
            qkv = operations.linear(normed, stream.qkv, branches)
            del normed
            joint = slice(first + span.rows.start, first + span.rows.stop)
            operations.split_heads(qkv, stream, rotation[span.rows], q[joint], k[joint], v[joint])
            del qkv
    return operations.attention(q[len(text) : len(text) + streams.target_tokens] if is_last else q, k, v)


def _add_attention(
    operations: Operations,
    x: Tensor,
    weights: StreamWeights,
    loras: StreamLoras,
    spans: Sequence[_Span],
    attended: Tensor,
) -> None:
    for span in spans:
        prepared = operations.prepare(attended[span.rows], keep=bool(loras.out))
        update = operations.linear(prepared, weights.out, loras.out)
        del prepared
        operations.add_gated(x[span.rows], update, span.values[2])


def _add_mlp(
    operations: Operations, x: Tensor, weights: StreamWeights, loras: StreamLoras, spans: Sequence[_Span]
) -> None:
    for span in spans:
        shift, scale, gate = span.values[3:]
        normed = operations.norm_modulate(x[span.rows], shift, scale, keep=bool(loras.up))
        wide = operations.linear(normed, weights.up, loras.up)
        del normed
        activation = operations.activate(wide, keep=bool(loras.down))
        del wide
        operations.add_gated(x[span.rows], operations.linear(activation, weights.down, loras.down), gate)
        del activation


def _spans(start: int, stop: int, values: Tensor) -> Iterator[_Span]:
    """Cut tokens into spans of nearly equal length."""
    count = -(-(stop - start) // CHUNK_TOKENS)
    for index in range(count):
        first, last = (start + (stop - start) * part // count for part in (index, index + 1))
        yield _Span(slice(first, last), values)

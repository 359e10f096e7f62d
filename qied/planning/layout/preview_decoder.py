"""What a tiny autoencoder costs that decodes previews: weights, what a picture takes, and its operations. Pure.

Without one, previews come from a linear map of each latent cell, which costs nothing worth counting.
"""

from __future__ import annotations

from math import prod

from qied.planning.plan import PreviewDecoder
from qied.weights.tiny_autoencoder import BLOCKS, CELL, COLOURS, TinyDecoderShape


def preview_decoder(name: str, shape: TinyDecoderShape) -> PreviewDecoder:
    """What the decoder of a file of this ``name`` costs."""
    parameters = sum(prod(each) for each in shape.tensors().values())
    return PreviewDecoder(name, parameters, _values_at_peak(shape), _operations(shape))


def _values_at_peak(shape: TinyDecoderShape) -> int:
    """Numbers for each pixel of the result that exist at once at most.

    A residual block holds its input, that with the frame before it behind each other, and the result of a
    convolution. The last convolutions are on all pixels of one frame: their input and result exist, and as much again
    where a convolution wants its input in another order.
    """
    peaks = [4 * width * shape.frames(stage) / _cells_a_pixel(stage) for stage, width in enumerate(shape.widths[:3])]
    last = 2 * max(shape.widths[2] + shape.widths[3], shape.widths[3] + COLOURS)
    return int(max(*peaks, last)) + 1


def _operations(shape: TinyDecoderShape) -> int:
    """Operations for each pixel of the result, two for each product of a convolution."""
    products = 9 * shape.channels * shape.widths[0] / _cells_a_pixel(0)
    for stage, blocks in enumerate(BLOCKS):
        width, frames = shape.widths[stage], shape.frames(stage)
        block = 9 * width * (2 * width + width + width)
        products += (len(blocks) * block + width * width * shape.growths[stage]) * frames / _cells_a_pixel(stage)
        after = shape.frames(stage + 1) if stage < len(BLOCKS) - 1 else 1
        products += 9 * width * shape.widths[stage + 1] * after / _cells_a_pixel(stage + 1)
    return round(2 * (products + 9 * shape.widths[3] * COLOURS))


def _cells_a_pixel(stage: int) -> int:
    """Pixels of the result in the place of one cell of a stage."""
    return (CELL >> stage) ** 2

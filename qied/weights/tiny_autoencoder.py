"""Files of tiny autoencoders (madebyollin's TAEHV family, lighttae): recognised by the tensors of their decoder.

The decoder is a list of layers whose numbers are in the names: three stages of three residual blocks each, each
followed by a doubling of the sides, a 1 x 1 convolution that makes one or two frames of each, and a 3 x 3 convolution.
Models of the same structure exist for several video models; whether one is for the latents at hand only decoding shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qied.weights.header import Header, read_header
from qied.weights.problems import BadFile

GET_ONE: Final = "Use taew2_1.safetensors or lighttaew2_1.safetensors, which are for Wan 2.1 and Qwen-Image."
BLOCKS: Final = ((3, 4, 5), (9, 10, 11), (15, 16, 17))
"""Numbers of the residual blocks of each stage."""
GROWTHS: Final = (7, 13, 19)
"""Numbers of the convolutions that make frames of frames."""
NARROWINGS: Final = (8, 14, 20)
"""Numbers of the convolutions to the next stage's channels."""
FIRST: Final = 1
LAST: Final = 22
CELL: Final = 8
"""Pixels along each side of a latent cell."""
COLOURS: Final = 3
_FLOATS: Final = frozenset(("F16", "BF16", "F32"))
_MOST_FRAMES: Final = 2


@dataclass(frozen=True)
class TinyDecoderShape:
    """``channels`` of latents, of the three stages and of the last layer (``widths``), and frames that each adds.

    ``growths`` has 1 for a stage that keeps the number of frames, and 2 for one that doubles it.
    """

    channels: int
    widths: tuple[int, int, int, int]
    growths: tuple[int, int, int]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors of the decoder."""
        found = _convolution(FIRST, self.channels, self.widths[0], 3, bias=True)
        for stage, numbers in enumerate(BLOCKS):
            width, after = self.widths[stage], self.widths[stage + 1]
            for number in numbers:
                for place, inputs in ((0, 2 * width), (2, width), (4, width)):
                    found |= _convolution(f"{number}.conv.{place}", inputs, width, 3, bias=True)
            found |= _convolution(f"{GROWTHS[stage]}.conv", width, width * self.growths[stage], 1, bias=False)
            found |= _convolution(NARROWINGS[stage], width, after, 3, bias=False)
        return found | _convolution(LAST, self.widths[3], COLOURS, 3, bias=True)

    def frames(self, stage: int) -> int:
        """Frames that a stage works on, of one frame of latents."""
        frames = 1
        for growth in self.growths[:stage]:
            frames *= growth
        return frames


def read_tiny_autoencoder(path: Path, channels: int) -> TinyDecoderShape:
    """The decoder in a file for latents of so many ``channels``; raises BadFile for any other file."""
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt"):
        raise BadFile("it is a pickle of torch, which qied does not open", GET_ONE)
    return tiny_decoder_shape(read_header(path), channels)


def tiny_decoder_shape(header: Header, channels: int) -> TinyDecoderShape:
    """The decoder that a file's header tells; raises BadFile where it has none, or one for other latents."""
    shapes = header.shapes
    if _name(LAST) not in shapes or _name(FIRST) not in shapes:
        raise BadFile("it is not a tiny autoencoder of TAEHV's structure", GET_ONE)
    found = _shape(shapes)
    if found.channels != channels:
        raise BadFile(f"it is for latents of {found.channels} channels, and the model has {channels}", GET_ONE)
    for name, shape in found.tensors().items():
        if name not in shapes:
            raise BadFile(f"it lacks {name!r}", GET_ONE)
        if shapes[name] != shape:
            raise BadFile(f"{name!r} is {list(shapes[name])}, and should be {list(shape)}", GET_ONE)
        if header.tensors[name].dtype not in _FLOATS:
            raise BadFile(f"{name!r} is stored as {header.tensors[name].dtype}, not in 16 or 32 bits", GET_ONE)
    return found


def _shape(shapes: Mapping[str, tuple[int, ...]]) -> TinyDecoderShape:
    """What the first layers of each kind say; raises BadFile where one is of another kind."""
    inputs = [_inputs(shapes, number) for number in (FIRST, *NARROWINGS, LAST)]
    growths = []
    for number, width in zip(GROWTHS, inputs[1:4], strict=True):
        outputs = shapes.get(_name(f"{number}.conv"), (0,))[0]
        growth = next((frames for frames in range(1, _MOST_FRAMES + 1) if outputs == frames * width), None)
        if growth is None:
            raise BadFile(f"{_name(f'{number}.conv')!r} makes {outputs} channels of {width}", GET_ONE)
        growths.append(growth)
    first, second, third = growths
    return TinyDecoderShape(inputs[0], (inputs[1], inputs[2], inputs[3], inputs[4]), (first, second, third))


def _inputs(shapes: Mapping[str, tuple[int, ...]], number: int) -> int:
    shape = shapes.get(_name(number), ())
    if len(shape) != 4 or 0 in shape:
        raise BadFile(f"{_name(number)!r} is not a convolution", GET_ONE)
    return shape[1]


def _convolution(place: int | str, inputs: int, outputs: int, side: int, *, bias: bool) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {_name(place): (outputs, inputs, side, side)}
    return found | {f"decoder.{place}.bias": (outputs,)} if bias else found


def _name(place: int | str) -> str:
    return f"decoder.{place}.weight"

"""One denoising step: the forwards that it asks the transformer for, guidance, and the step along the schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.lora.branches import NOTHING_AROUND, AroundLoras, BlockLoras
from qied.engine.transformer.modulation_table import StepModulation
from qied.engine.transformer.rope import Rotation
from qied.engine.transformer.transformer import Forward, Transformer
from qied.planning.layout.forward_layout import Tokens

PATCH = 2
"""Latent cells along each side of a token."""
_SEEDS = 2**32
"""Seeds that torch's generator on the CPU tells apart."""


def initial_noise(seed: int, channels: int, rows: int, columns: int) -> Tensor:
    """Draw noise FP32 [1, channels, rows, columns] on the CPU, so that a seed means the same on every device.

    The draw of a seed below 2**32 is that of diffusers' pipeline with a CPU generator; rounded to BF16 it equals a draw
    in BF16. Of a larger one torch would take the lower 32 bits alone: its noise is the sum of two draws, whose seeds
    are a hash of all bits.
    """
    shape = (1, channels, rows, columns)
    if seed < _SEEDS:
        return _drawn(seed, shape)
    digest = hashlib.sha256(seed.to_bytes(8, "little")).digest()
    one, two = (int.from_bytes(digest[place : place + 4], "little") for place in (0, 4))
    noise: Tensor = (_drawn(one, shape) + _drawn(two, shape)) * 0.5**0.5
    return noise


def noise_as_comfyui(seed: int, channels: int, rows: int, columns: int) -> Tensor:
    """Draw noise FP32 [1, channels, rows, columns] as ComfyUI's ``prepare_noise`` does: on the CPU, in one draw.

    Its latents have an axis of frames with one of them, which changes no number. Of a seed above 2**32 torch takes the
    lower 32 bits alone.
    """
    return _drawn(seed, (1, channels, rows, columns))


def _drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def whole_tokens(latents: Tensor) -> Tensor:
    """Cells [1, C, rows, columns] for whole tokens: an odd side gets its first cells once more at its end.

    ComfyUI's ``pad_to_patch_size`` pads circularly so.
    """
    rows, columns = latents.shape[-2:]
    if rows % PATCH:
        latents = torch.cat([latents, latents[..., :1, :]], dim=-2)
    return torch.cat([latents, latents[..., :1]], dim=-1) if columns % PATCH else latents


def pack(latents: Tensor) -> Tensor:
    """Turn cells [1, C, rows, columns] into tokens [1, rows/2 * columns/2, C * 4]."""
    _, channels, rows, columns = latents.shape
    cells = latents.reshape(1, channels, rows // PATCH, PATCH, columns // PATCH, PATCH)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(1, -1, channels * PATCH * PATCH)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Turn tokens [1, rows/2 * columns/2, C * 4] back into cells [1, C, rows, columns]."""
    channels = tokens.shape[-1] // (PATCH * PATCH)
    cells = tokens.reshape(1, rows // PATCH, columns // PATCH, channels, PATCH, PATCH)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(1, channels, rows, columns)


@dataclass(frozen=True)
class Conditioning:
    """The inputs that stay the same over the steps of one edit.

    ``references`` [1, tokens, C * 4] follow the target's tokens; ``rotation`` has the positions of target, references
    and the longer text; embeddings are [1, text tokens, hidden], of the compute type like the references.
    ``negative`` is None without guidance.
    """

    references: Tensor
    rotation: Rotation
    positive: Tensor
    negative: Tensor | None
    scale: float

    @property
    def prompts(self) -> tuple[Tensor, ...]:
        """The embeddings of each forward of a step."""
        return (self.positive,) if self.negative is None else (self.positive, self.negative)

    def tokens(self, latents: Tensor) -> tuple[Tokens, ...]:
        """Tokens of each forward of a step."""
        return tuple(Tokens(prompt.shape[1], latents.shape[1], self.references.shape[1]) for prompt in self.prompts)


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Combine two predictions by classifier-free guidance, each token scaled back to the positive one's norm."""
    combined = negative + scale * (positive - negative)
    return combined * (_lengths(positive) / _lengths(combined))


@dataclass(frozen=True)
class VelocityRequest:
    """The request of a step: the velocities of its forwards, for the positive prompt and, with guidance, the other.

    ``transformer`` is what gives them, in the precision of the pass.
    """

    transformer: Transformer
    forwards: tuple[Forward, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all forwards together."""
        return sum(forward.tokens.all for forward in self.forwards)


def velocity_request(
    transformer: Transformer,
    latents: Tensor,
    modulation: StepModulation,
    conditioning: Conditioning,
    loras: Sequence[BlockLoras] = (),
    around: AroundLoras = NOTHING_AROUND,
) -> VelocityRequest:
    """Ask ``transformer`` for the velocities of one step at ``latents`` FP32 [1, target tokens, C * 4].

    ``loras`` has one entry for each block, or none at all; ``around`` those around the blocks.
    """
    return VelocityRequest(
        transformer,
        tuple(
            Forward(latents, conditioning.references, prompt, conditioning.rotation, modulation, loras, around)
            for prompt in conditioning.prompts
        ),
    )


def guided(velocities: Sequence[Tensor], scale: float) -> Tensor:
    """Return the velocity FP32 [1, target tokens, C * 4] of a step from those of its forwards."""
    positive, *negative = velocities
    return guide(positive, negative[0], scale) if negative else positive


def euler_step(latents: Tensor, velocity: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """Move latents FP32 from ``sigma`` to ``next_sigma``."""
    return latents + (next_sigma - sigma) * velocity


def clean_estimate(latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return where the velocity points at sigma 0: the picture as it looks from here, FP32."""
    return latents - sigma * velocity


def _lengths(tokens: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return lengths

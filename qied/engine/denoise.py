"""One denoising step: the forwards that it asks the transformer for, guidance, and the step along the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.engine.lora.branches import BlockLoras
from qied.engine.modulation_table import StepModulation
from qied.engine.rope import Rotation
from qied.engine.transformer import Forward
from qied.planning.forward_layout import Tokens


@dataclass(frozen=True)
class Conditioning:
    """What stays the same over the steps of one edit.

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
    """What a step asks for: the velocities of its forwards, for the positive prompt and, with guidance, the other."""

    forwards: tuple[Forward, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all forwards together."""
        return sum(forward.tokens.all for forward in self.forwards)


def velocity_request(
    latents: Tensor, modulation: StepModulation, conditioning: Conditioning, loras: Sequence[BlockLoras] = ()
) -> VelocityRequest:
    """Ask for the velocities of one step at ``latents`` FP32 [1, target tokens, C * 4].

    ``loras`` has one entry for each block, or none at all.
    """
    return VelocityRequest(
        tuple(
            Forward(latents, conditioning.references, prompt, conditioning.rotation, modulation, loras)
            for prompt in conditioning.prompts
        )
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

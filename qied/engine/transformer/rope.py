"""Rotary positions of one edit's tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope
from torch import Tensor

LatentShape = tuple[int, int, int]
"""Frames, rows and columns of a picture in tokens."""

_THETA = 10_000


@dataclass(frozen=True)
class Rotation:
    """Rotations complex64 [tokens, head_dim / 2] of the image stream and of the text stream."""

    image: Tensor
    text: Tensor


class Rope(QwenEmbedRope):  # type: ignore[misc]
    """diffusers' rotary positions, computed on the CPU, and without its caches, which would keep every instance."""

    _compute_video_freqs = inspect.unwrap(QwenEmbedRope._compute_video_freqs)

    def __init__(self, axes: Sequence[int]) -> None:
        """``axes`` are the widths of frame, row and column in a head."""
        super().__init__(_THETA, list(axes), scale_rope=True)

    def _get_device_freqs(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The tables of positions, which stay on the CPU."""
        return self.pos_freqs, self.neg_freqs

    def rotation(self, shapes: Sequence[LatentShape], text_tokens: int, device: torch.device) -> Rotation:
        """Rotations of a target and its references, and of ``text_tokens`` of text, on ``device``."""
        image, text = self([list(shapes)], max_txt_seq_len=text_tokens, device=torch.device("cpu"))
        return Rotation(image.to(device), text.to(device))

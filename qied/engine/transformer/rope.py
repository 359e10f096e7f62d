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


@dataclass(frozen=True)
class Positions:
    """Frame, row and column int64 [tokens, 3] of each token of the image stream and of the text stream."""

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

    def rotation_at(self, positions: Positions, device: torch.device) -> Rotation:
        """Rotations of tokens at these positions, on ``device``."""
        return Rotation(self._at(positions.image).to(device), self._at(positions.text).to(device))

    def _at(self, positions: Tensor) -> Tensor:
        widths = [axis // 2 for axis in self.axes_dim]
        # The table of negative positions ends with -1, so that -n is the n-th from its end.
        tables = zip(self.pos_freqs.split(widths, dim=1), self.neg_freqs.split(widths, dim=1), strict=True)
        parts = []
        for axis, (up, down) in enumerate(tables):
            place = positions[:, axis]
            parts.append(torch.where((place >= 0)[:, None], up[place.clamp(min=0)], down[place.clamp(max=-1)]))
        return torch.cat(parts, dim=1)


def comfyui_positions(shapes: Sequence[LatentShape], text_tokens: int) -> Positions:
    """Positions of a target, its references and ``text_tokens`` of text as ComfyUI's QwenImageTransformer2DModel has.

    That is with the reference method "index", or "index_timestep_zero", which has the same: picture i has frame i, its
    rows and columns count from minus half of them, rounded down in size. Text begins behind half of the target's longer
    side alone, where diffusers goes by the references too.
    """
    pictures = [
        torch.cartesian_prod(
            torch.tensor([frame]), torch.arange(rows) - rows // 2, torch.arange(columns) - columns // 2
        )
        for frame, (_, rows, columns) in enumerate(shapes)
    ]
    _, rows, columns = shapes[0]
    start = max(rows // 2, columns // 2)
    return Positions(torch.cat(pictures), torch.arange(start, start + text_tokens)[:, None].expand(-1, 3))

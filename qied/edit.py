"""What one edit is once every default has been resolved: the order that the front gives and the engine carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OutputFormat = Literal["png", "webp"]


@dataclass(frozen=True)
class EditSpec:
    """One edit, complete and immutable: the same spec and picture bytes give the same output bytes.

    ``images`` and ``mask`` are SHA-256 hashes (hex) of encoded picture files; ``width`` and ``height`` are pixels of
    the result, multiples of 16. ``true_cfg_scale`` above 1 means two forwards a step and needs ``negative_prompt``.
    ``preview_every`` counts steps between previews; 0 sends none.
    """

    images: tuple[str, ...]
    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    true_cfg_scale: float
    width: int
    height: int
    mask: str | None = None
    output_format: OutputFormat = "png"
    preview_every: int = 1

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on, so that each step costs two forwards."""
        return self.true_cfg_scale > 1.0 and self.negative_prompt is not None

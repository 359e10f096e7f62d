"""What a shop's night is made of: of the full-size model on a card, or of the built-in one, to show that it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Model = Literal["full-size", "builtin"]
GB = 10**9
NIGHT = "night"


@dataclass(frozen=True)
class Setting:
    """One night. ``side`` is that of the edits in pixels, ``budget_bytes`` what the worker may have (None: all).

    ``lora`` and ``upscale`` are called so in each edit; the full-size model's are files with random weights.
    """

    model: Model
    pictures: int
    side: int
    budget_bytes: int | None
    precision: str
    lora: str
    upscale: str
    steps: int = 4
    webp_quality: int = 90


def setting(model: Model, pictures: int | None, precision: str | None) -> Setting:
    """The setting of a run; None are the usual ones."""
    if model == "builtin":
        return Setting(model, pictures or 6, 64, None, precision or "fp32", "builtin-lightning-4steps", "2x")
    lora = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16"
    return Setting(model, pictures or 60, 1024, 12 * GB, precision or "fp8", lora, "4x")

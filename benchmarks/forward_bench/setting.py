"""What is measured: the architecture, the sizes, and how often; full, or small to show that everything works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from memory_bench.architecture import TRANSFORMER

TEXT_TOKENS = 384
GB = 1e9

SMALL_ARCHITECTURE: dict[str, Any] = {
    **TRANSFORMER,
    "attention_head_dim": 32,
    "axes_dims_rope": [8, 12, 12],
    "joint_attention_dim": 64,
    "num_attention_heads": 2,
    "num_layers": 3,
}


@dataclass(frozen=True)
class Size:
    """One forward's pictures: the target's side and those of its references, in pixels."""

    target: int
    references: tuple[int, ...]

    def __str__(self) -> str:
        count = f"{len(self.references)}x" if len(self.references) > 1 else ""
        return f"{self.target}/{count}{self.references[0]}"


SIZES = (Size(512, (512,)), Size(768, (768,)), Size(1024, (1024,)), Size(1024, (1024, 1024)))
SMALLEST, MIDDLE, NATIVE = (str(size) for size in SIZES[:3])
SWEPT_AT = 4.5
"""Gigabytes of weights on the card at which several forwards share a sweep."""
WARM_UP = Size(256, (256,))
"""A size that nothing else has: what is done once a process is done with it."""


@dataclass(frozen=True)
class Setting:
    """How everything is measured.

    ``cell`` are pixels along a token's side; 16, and more in a quick run, so that there are few tokens. ``repeats``
    forwards are timed after ``warm_up`` others. ``attention`` are backends in order of preference, on cards.
    """

    device: str = "cuda"
    quick: bool = False
    architecture: tuple[tuple[str, Any], ...] = tuple(TRANSFORMER.items())
    cell: int = 16
    text_tokens: int = TEXT_TOKENS
    repeats: int = 7
    warm_up: int = 2
    attention: tuple[str, ...] = ("cudnn", "flash", "efficient")

    @property
    def config(self) -> dict[str, Any]:
        """The architecture as diffusers configures it."""
        return dict(self.architecture)

    @property
    def layers(self) -> int:
        """Blocks of the transformer."""
        return int(self.config["num_layers"])

    @property
    def inner(self) -> int:
        """Width of the residual streams."""
        return int(self.config["num_attention_heads"] * self.config["attention_head_dim"])

    def side(self, pixels: int) -> int:
        """Tokens along a side."""
        return pixels // self.cell

    def shapes(self, size: Size) -> list[tuple[int, int, int]]:
        """Frames, rows and columns in tokens: the target, then the references."""
        return [(1, self.side(pixels), self.side(pixels)) for pixels in (size.target, *size.references)]

    def tokens(self, size: Size) -> int:
        """All tokens of a forward: target, references and text."""
        return sum(rows * columns for _, rows, columns in self.shapes(size)) + self.text_tokens


def setting(device: str, quick: bool, attention: tuple[str, ...]) -> Setting:
    """The setting of a run."""
    full = Setting(device=device, attention=attention)
    if not quick:
        return full
    small = tuple(SMALL_ARCHITECTURE.items())
    return replace(full, quick=True, architecture=small, cell=128, text_tokens=12, repeats=2, warm_up=1)

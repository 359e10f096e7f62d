"""What is measured: sides of pictures and tiles in pixels; full size, or small to show that everything works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from memory_bench.architecture import VAE

SIDES = (768, 1024, 1536, 2048)
SHRUNK = 16
"""Pictures of a quick run are so many times smaller along each side, too small for tiles."""
DIFFUSERS_TILE = (256, 192)
"""diffusers' own default: side of a tile, and the distance from one to the next."""


@dataclass(frozen=True)
class Setting:
    """How everything is measured; ``sides`` are those that the report names, ``pixels`` what is computed.

    ``tiles`` are those of the project's VAE; with none, diffusers' runs without tiles as well. ``real_side`` and
    ``real_tiles`` are of the real picture.
    """

    device: str = "cuda"
    quick: bool = False
    config: tuple[tuple[str, Any], ...] = tuple(VAE.items())
    sides: tuple[int, ...] = SIDES
    tiles: tuple[int, ...] = (512, 1024)
    repeats: int = 5
    warm_up: int = 1
    real_side: int = 1024
    real_tiles: tuple[int, ...] = (256, 384, 512, 768)

    def pixels(self, side: int) -> int:
        """A side as it is computed."""
        return side // SHRUNK if self.quick else side


def setting(device: str, quick: bool) -> Setting:
    """The setting of a run."""
    full = Setting(device=device)
    if not quick:
        return full
    small = tuple({**VAE, "base_dim": 8}.items())
    return replace(full, quick=True, config=small, tiles=(), repeats=1, real_side=384, real_tiles=(256,))

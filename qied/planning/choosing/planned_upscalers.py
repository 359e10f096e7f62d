"""How a plan runs each upscaling model, for people and programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any

from qied.planning.edits.upscaling import UpscalerFacts, UpscalerPrecision, upscale_bytes, upscale_tile
from qied.planning.layout.memory import model_of
from qied.planning.plan import Plan
from qied.planning.profiles.model_profile import ModelProfile


@dataclass(frozen=True)
class PlannedUpscaler:
    """One model: the side of its tiles in pixels for the largest result, and what such a tile takes in bytes."""

    name: str
    scale: int
    architecture: str
    precision: UpscalerPrecision
    tile_px: int
    tile_bytes: int

    @property
    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.name}: {self.scale}x, {self.architecture}, {self.precision.upper()}, tiles of {self.tile_px} x "
            f"{self.tile_px} px"
        )

    def to_json(self) -> dict[str, Any]:
        """An entry of ``upscalers`` in the document of ``qied plan --json``."""
        return asdict(self)


def planned_upscalers(
    plan: Plan,
    model: ModelProfile,
    upscalers: Mapping[str, UpscalerFacts],
    precisions: Mapping[str, UpscalerPrecision],
) -> list[PlannedUpscaler]:
    """All models in the order of their names."""
    grid = model.geometry.side_multiple
    side = max(grid, isqrt(plan.max_pixels) // grid * grid)
    room = model_of(plan.execution, model).decode_room(side, side, plan.execution.decode_tile_px)
    found = []
    for name, facts in sorted(upscalers.items()):
        tile = upscale_tile(facts, room)
        precision = precisions.get(name, "fp32")
        found.append(
            PlannedUpscaler(name, facts.scale, facts.architecture, precision, tile, upscale_bytes(facts, tile))
        )
    return found

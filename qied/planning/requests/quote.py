"""The price of a request: what it adds to a plan's weights when it runs alone, and the nearest size that fits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qied_client.text import gib

from qied.planning.edits.geometry import nearest_within
from qied.planning.edits.workload import Workload, largest_workload
from qied.planning.layout.memory import Tiles, model_of
from qied.planning.plan import Plan
from qied.planning.profiles.model_profile import ModelProfile

_PROMPT_TOKENS = 64
"""A prompt of two or three sentences."""


@dataclass(frozen=True)
class Answer:
    """For one request: bytes that it adds to the plan's weights, and the nearest (width, height) that fits."""

    width: int
    height: int
    images: int
    guided: bool
    fits: bool
    predicted_peak_bytes: int
    nearest: tuple[int, int]

    @property
    def text(self) -> str:
        """One sentence for people."""
        pictures = f" with {self.images} picture{'s' if self.images > 1 else ''}" if self.images else ""
        size = f"{self.width} x {self.height}{pictures}"
        guidance = " and guidance" if self.guided else ""
        if self.fits:
            return f"{size}{guidance} fits: at most {gib(self.predicted_peak_bytes)}, alone."
        return f"{size} is above the cap; the nearest size that fits is {self.nearest[0]} x {self.nearest[1]}."

    def to_json(self) -> dict[str, Any]:
        """The object under ``request`` in the document of ``qied plan --json``."""
        return {
            "width": self.width,
            "height": self.height,
            "images": self.images,
            "cfg": self.guided,
            "fits": self.fits,
            "predicted_peak_bytes": self.predicted_peak_bytes,
            "nearest": {"width": self.nearest[0], "height": self.nearest[1]},
        }


def ask(plan: Plan, model: ModelProfile, *, width: int, height: int, images: int, guided: bool) -> Answer:
    """Say what a plan means for one request that runs alone; sizes in pixels, which are laid on the model's grid."""
    largest = largest_workload(model, plan.max_pixels, plan.max_reference_pixels)
    grid = model.geometry.side_multiple
    across, down = -(-width // grid) * grid, -(-height // grid) * grid
    nearest = nearest_within(across, down, plan.max_pixels, model.geometry.side_multiple)
    fits = across * down <= plan.max_pixels
    wanted = (across, down) if fits else nearest
    work = Workload(
        width=wanted[0],
        height=wanted[1],
        references=images,
        reference_pixels=largest.reference_pixels,
        vision_tokens=largest.vision_tokens,
        prompt_tokens=_PROMPT_TOKENS,
        guided=guided,
    )
    return Answer(width, height, images, guided, fits, peak_alone(plan, model, work), nearest)


def peak_alone(plan: Plan, model: ModelProfile, work: Workload) -> int:
    """Bytes of the device at most while one edit runs alone under a plan; caches are empty."""
    run = plan.execution
    memory = model_of(run, model)
    weights = memory.weights(run.text_encoder)
    foot = memory.footprint(work, Tiles(run.encode_tile_px, run.decode_tile_px), run.text_encoder)
    blocks = (run.resident_blocks + run.ring_slots) * weights.block
    context = memory.factors.context + memory.factors.workspace + memory.graphs(work)
    return context + weights.rest + weights.text_encoder + blocks + foot.state + foot.arena

"""The served model: one plan for each worker, and the memory of an edit on each kind of worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qied.edit import EditSpec
from qied.planning.edits.loras import NO_LORAS, LoraFacts, LoraRoom
from qied.planning.edits.upscaling import (
    UpscalerFacts,
    UpscalerPrecision,
    upscale_bytes,
    upscale_operations,
    upscale_tile,
)
from qied.planning.edits.workload import works_of
from qied.planning.layout.memory import Footprint, MemoryModel, Tiles, largest_of, model_of
from qied.planning.plan import Execution, Plan
from qied.planning.profiles.model_profile import ModelProfile


@dataclass(frozen=True)
class Serving:
    """The model, the plans of all workers, the best one first, the LoRAs by name, and the room that workers have.

    ``lightning_steps``: those that the transformer itself is distilled to; None for a plain one. With
    ``keeps_schedule`` it runs on the schedule of the preset all the same. ``warnings`` are what
    is probably wrong with the model itself, a sentence each, within the limits of a message; each edit has them too.
    ``rewrites``: there is a prompt rewriter. ``upscalers`` are the upscaling models by name, and
    ``upscaler_precisions`` those in which the first worker runs them, where that is not FP32.
    """

    profile: ModelProfile
    plans: tuple[Plan, ...]
    loras: Mapping[str, LoraFacts] = field(default_factory=dict)
    lora_room: LoraRoom = NO_LORAS
    lightning_steps: int | None = None
    warnings: tuple[str, ...] = ()
    keeps_schedule: bool = False
    rewrites: bool = False
    upscalers: Mapping[str, UpscalerFacts] = field(default_factory=dict)
    upscaler_precisions: Mapping[str, UpscalerPrecision] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """cuda or cpu."""
        return self.plans[0].execution.device

    @property
    def precision(self) -> str:
        """Precision of the first plan, as the engine calls it."""
        return self.plans[0].execution.precision

    @property
    def second_precision(self) -> str | None:
        """The precision that passes may name besides, where every worker has it."""
        seconds = {plan.execution.second.precision if plan.execution.second else None for plan in self.plans}
        return seconds.pop() if len(seconds) == 1 else None

    @property
    def max_pixels(self) -> int:
        """The largest result that any worker takes."""
        return max(plan.max_pixels for plan in self.plans)

    @property
    def max_reference_pixels(self) -> int:
        """Cap of a reference: that of the smallest worker, so that an edit is the same wherever it runs."""
        return min(plan.max_reference_pixels for plan in self.plans)

    @property
    def max_result_pixels(self) -> int:
        """The largest result with all that is done after it is drawn, wherever it runs."""
        return min(plan.max_result_pixels for plan in self.plans)

    def upscale_gflop(self, spec: EditSpec) -> float:
        """10^9 operations of enlarging a result on the first worker; 0 where it is not."""
        facts = self.upscalers.get(spec.upscale)
        if facts is None:
            return 0.0
        run = self.plans[0].execution
        room = model_of(run, self.profile).decode_room(spec.width, spec.height, run.decode_tile_px)
        return upscale_operations(facts, spec.drawn_size, upscale_tile(facts, room)) / 1e9

    def footprints(self, spec: EditSpec) -> dict[str, Footprint]:
        """What an edit takes, by kind of worker, the first plan's kind first.

        Where steps go together they share the arena that was planned for the largest edit, so each is promised all of
        it: the states of many small edits must not take its room.
        """
        works = works_of(spec, self.profile, self.max_reference_pixels, self.loras)
        found: dict[str, Footprint] = {}
        for plan in self.plans:
            run = plan.execution
            if (kind := kind_of(run)) not in found:
                tiles = Tiles(run.encode_tile_px, run.decode_tile_px)
                model = model_of(run, self.profile)
                foot = largest_of(model.footprint(work, tiles, run.text_encoder) for work, _ in works)
                if (upscaler := self.upscalers.get(spec.upscale)) is not None:
                    foot = upscaled(foot, model, upscaler, spec, run.decode_tile_px)
                found[kind] = replace(foot, arena=max(foot.arena, plan.arena_bytes)) if run.sweeps else foot
        return found


def kind_of(execution: Execution) -> str:
    """Name of what decides how many bytes an edit takes on a worker."""
    tiles = f"{execution.encode_tile_px}-{execution.decode_tile_px}"
    numbers = f"{execution.device}-{execution.precision}-{execution.compute}"
    swept = f"-{execution.sweep_bytes}" if execution.sweeps else ""
    attention = "-fp8-attention" if execution.fp8_attention else ""
    eight_bits = execution.text_encoder_precision != "stored"
    text = execution.text_encoder + f"-{execution.text_encoder_precision}" * eight_bits
    decoder = execution.preview_decoder
    previews = f"-previews-{decoder.parameters}-{decoder.values}" if decoder is not None else ""
    second = f"-beside-{execution.second.precision}" if execution.second is not None else ""
    return f"{numbers}-{tiles}-{text}{swept}{attention}{previews}{second}"


def upscaled(
    foot: Footprint, model: MemoryModel, upscaler: UpscalerFacts, spec: EditSpec, decode_tile_px: int | None
) -> Footprint:
    """What an edit takes that is upscaled at its end, or that does nothing else."""
    tile = upscale_tile(upscaler, model.decode_room(spec.width, spec.height, decode_tile_px))
    needed = upscale_bytes(upscaler, tile) + model.factors.fragments
    return Footprint(0, needed) if spec.only_upscales else replace(foot, arena=max(foot.arena, needed))

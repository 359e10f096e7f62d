"""Measuring one plan: its model is built, its edits run, and the card's memory is read in every phase."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image
from qied_client.errors import JobFailed

from memory_bench.cases import Case
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.models import ComponentSources
from qied.planning.edits.workload import Workload, workload_of
from qied.planning.layout.memory import MemoryModel, Tiles, model_of
from qied.planning.plan import Plan
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.requests.quote import peak_alone


@dataclass(frozen=True)
class Card:
    """The card that is measured; ``before`` are bytes in use on it before this process used CUDA.

    ``stand_in`` tells the bytes of random weights in the host's memory that a mapped file would hold otherwise, and
    ``files`` are the weights that are mapped: pages of either are the system's, which takes them back at any time, so a
    plan does not count them.
    """

    before: int
    read_used: Callable[[], int]
    stand_in: Callable[[], int]
    files: tuple[Path, ...] = ()

    def host_bytes(self) -> int:
        """Bytes of the host's memory that this process holds, without mapped files and what stands for them."""
        process = psutil.Process()
        paths = {str(file.resolve()) for file in self.files}
        mapped = sum(part.rss for part in process.memory_maps() if part.path in paths) if paths else 0
        return int(process.memory_info().rss) - self.stand_in() - mapped

    def overhead(self) -> int:
        """Bytes of the card that this process holds beside what torch's allocator reserved."""
        torch.cuda.synchronize()
        return self.read_used() - self.before - torch.cuda.memory_reserved()


def build(plan: Plan, model: ModelProfile, sources: ComponentSources) -> Engine:
    """Build the engine of a plan on random weights."""
    options = EngineOptions(execution=plan.execution)
    return Engine.build(sources, model, options, lambda *_: None)


def clear() -> None:
    """Give back everything that is not held: cuBLAS's workspaces too, which an engine leaves behind for its streams."""
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def measure(engine: Engine, plan: Plan, model: ModelProfile, case: Case, card: Card) -> dict[str, Any]:
    """Run one edit alone and compare its peak with the predicted one, as a whole and in its parts."""
    spec = case.spec()
    work = workload_of(spec, model, plan.max_reference_pixels)
    clear()
    weights = torch.cuda.memory_allocated()
    peaks = _run(engine.begin(spec, _pictures(case), None))
    allocated, reserved = peaks.allocated, peaks.reserved
    overhead = card.overhead()
    predicted = peak_alone(plan, model, work)
    return {
        "case": str(case),
        "predicted_bytes": predicted,
        "measured_bytes": reserved + overhead,
        "over": predicted / (reserved + overhead) - 1,
        "allocated_bytes": allocated,
        "reserved_bytes": reserved,
        "overhead_bytes": overhead,
        "state": {"predicted": model_of(plan.execution, model).state(work), "measured": peaks.held},
        "host": {"predicted": plan.host_bytes, "measured": card.host_bytes()},
        "weights": {"predicted": _weights(plan, model), "measured": weights, "told": engine.memory_bytes()},
        "phases": _compared(peaks.phases, model_of(plan.execution, model), work, plan),
    }


@dataclass
class _Peaks:
    """Bytes at the peaks of an edit: ``phases`` above what was there before each unit, the others as they are."""

    phases: dict[str, int] = field(default_factory=dict)
    allocated: int = 0
    reserved: int = 0
    held: int = 0

    def note(self, phase: str, before: int) -> None:
        """Take in the peak of one unit of work."""
        torch.cuda.synchronize()
        self.allocated = max(self.allocated, torch.cuda.max_memory_allocated())
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
        self.phases[phase] = max(self.phases.get(phase, 0), torch.cuda.max_memory_allocated() - before)


def _run(edit: Edit) -> _Peaks:
    """Advance an edit to its end."""
    peaks = _Peaks()
    while True:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        try:
            advance = edit.advance()
        except JobFailed:
            # Random weights may give what is no number; the engine refuses it after its last computation.
            peaks.note("decode", before)
            return peaks
        peaks.note("modulation" if advance.phase == "prepare_steps" else advance.phase, before)
        peaks.held = max(peaks.held, edit.state_bytes)
        if advance.image is not None:
            return peaks


def _weights(plan: Plan, model: ModelProfile) -> int:
    run = plan.execution
    weights = model_of(run, model).weights(run.text_encoder)
    return weights.rest + weights.text_encoder + (run.resident_blocks + run.ring_slots) * weights.block


def _compared(phases: Mapping[str, int], memory: MemoryModel, work: Workload, plan: Plan) -> dict[str, dict[str, int]]:
    run = plan.execution
    arena = memory.arena(work, Tiles(run.encode_tile_px, run.decode_tile_px), run.text_encoder)
    predicted = asdict(arena)
    return {phase: {"predicted": predicted[phase], "measured": measured} for phase, measured in phases.items()}


def _pictures(case: Case) -> dict[str, Image.Image]:
    """References at the native size, and a mask of half the picture."""
    spec = case.spec()
    pictures = {name: Image.effect_noise((1024, 1024), 60).convert("RGB") for name in spec.images}
    if spec.mask is not None:
        pictures[spec.mask] = Image.linear_gradient("L").resize((case.width, case.height))
    return pictures

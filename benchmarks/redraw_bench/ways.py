"""The ways to better a draft, and what each gives of one held-out edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from quality_bench.jobs import picture_of, tensor_of
from quality_bench.loras import with_lora

from qied.edit import EditSpec, PassSpec
from qied.engine.engine import Engine
from qied.planning.requests.pace import Pace
from qied.planning.requests.serving import Serving
from tools.tiny_model.edits import Edit
from tools.tiny_model.metrics import psnr
from tools.tiny_model.render import render_scenes
from tools.tiny_model.scenes import SIDE
from tools.tiny_model.scoring import edited_region, score

STEPS: Final = 12
REDRAWS: Final[Mapping[str, tuple[float, int | None]]] = {
    "redraw 0.5": (0.5, None),
    "redraw 0.4": (0.4, None),
    "redraw 0.3": (0.3, None),
    "redraw 0.5, 32 px around": (0.5, 32),
}
"""Strengths, and the pixels that the model sees around the region: None leaves them open, as a request does."""
DRAFT, REDO, REFINE = "draft", "whole redo", "refiner 0.3"
_MOST_PIXELS: Final = 1 << 18


@dataclass(frozen=True)
class Tried:
    """What a way gave of one edit: its score, PSNR to the truth in the edited region and in all, and what it took.

    ``changed_outside``: pixels that differ from the draft outside the region; None where all was drawn anew.
    """

    success: bool
    inside_db: float
    whole_db: float
    gflop: float
    step_ms: float
    changed_outside: int | None


def names() -> tuple[str, ...]:
    """All ways in the order of the table."""
    return (DRAFT, REDO, *REDRAWS, REFINE)


def tried(engine: Engine, serving: Serving, edit: Edit, seed: int) -> dict[str, Tried]:
    """Every way on one edit: a draft first, which the others but the redo start from."""
    source, pace = picture_of(edit.source), Pace(serving)
    scenes = render_scenes([edit.source, edit.target])
    region = edited_region(scenes[:1], scenes[1:])[0].numpy()
    preview = serving.profile.presets["preview"]
    whole = EditSpec(("a",), edit.instruction, None, seed, STEPS, 1.0, SIDE, SIDE, preview_every=0)
    first = with_lora(replace(whole, steps=preview.steps), "lightning")
    pictures = {"a": source}
    draft, draft_ms = _carried_out(engine, first, pictures)
    found = {DRAFT: _judged(draft, edit, region, pace.steps_gflop(first), draft_ms, None)}
    redo, redo_ms = _carried_out(engine, whole, pictures)
    found[REDO] = _judged(redo, edit, region, pace.steps_gflop(whole), redo_ms, None)
    over = replace(whole, canvas="c", crop_width=SIDE, crop_height=SIDE)
    for name, each, inside in _passes(region, serving.profile.geometry.crop_context):
        spec = replace(over, passes=(each,))
        picture, step_ms = _carried_out(engine, spec, {**pictures, "c": draft})
        outside = None
        if inside is not None:
            moved = (np.asarray(picture) != np.asarray(draft)).any(axis=2)
            outside = int((moved & ~inside).sum())
        found[name] = _judged(picture, edit, region, pace.steps_gflop(spec), step_ms, outside)
    return found


def _passes(region: np.ndarray[Any, Any], context: float) -> list[tuple[str, PassSpec, np.ndarray[Any, Any] | None]]:
    rows, columns = np.nonzero(region.any(axis=1))[0], np.nonzero(region.any(axis=0))[0]
    # A person's box is not drawn to the pixel.
    left, top = max(0, int(columns[0]) - 8), max(0, int(rows[0]) - 8)
    right, bottom = min(SIDE, int(columns[-1]) + 9), min(SIDE, int(rows[-1]) + 9)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top:bottom, left:right] = True
    common: dict[str, Any] = {"steps": STEPS, "max_pixels": _MOST_PIXELS}
    box: dict[str, Any] = {"left": left, "top": top, "width": right - left, "height": bottom - top, "feather": 4}
    found: list[tuple[str, PassSpec, np.ndarray[Any, Any] | None]] = []
    for name, (strength, padding) in REDRAWS.items():
        around = {"padding": 0, "context": context} if padding is None else {"padding": padding}
        found.append((name, PassSpec(strength=strength, **around, **box, **common), inside))
    everything: dict[str, Any] = {"left": 0, "top": 0, "width": SIDE, "height": SIDE, "padding": 0, "feather": 0}
    return [*found, (REFINE, PassSpec(strength=0.3, **everything, **common), None)]


def _carried_out(engine: Engine, spec: EditSpec, pictures: Mapping[str, Image.Image]) -> tuple[Image.Image, float]:
    """The result, and the milliseconds of its steps."""
    edit, spent = engine.begin(spec, pictures, "bench"), 0.0
    while True:
        done = edit.advance()
        spent += sum(unit.milliseconds for unit in done.ended if unit.phase in ("denoise", "redraw"))
        if done.image is not None:
            return done.image, spent


def _judged(
    picture: Image.Image, edit: Edit, region: np.ndarray[Any, Any], gflop: float, ms: float, outside: int | None
) -> Tried:
    output, truth = tensor_of(picture)[None], render_scenes([edit.target])
    mask = torch.from_numpy(region)[None]
    return Tried(
        success=score(output, [edit])[0].success,
        inside_db=float(psnr(output, truth, mask)),
        whole_db=float(psnr(output, truth)),
        gflop=gflop,
        step_ms=ms,
        changed_outside=outside,
    )

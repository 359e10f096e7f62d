"""Whether an output picture is the edit that was asked for, checked against the exact result, and how close it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.tiny_model.edits import ALL_TASKS, Edit
from tools.tiny_model.metrics import psnr, ssim
from tools.tiny_model.phrasings import AnyTask
from tools.tiny_model.render import render_scenes, scene_rows, scene_tensors, silhouettes
from tools.tiny_model.scenes import MAX_SHAPES, SIDE, Scene, Shape

CHANGED = 8 / 255
"""A pixel is in the edited region where source and truth differ by more than this in some channel."""
TILE = 16
"""Side in pixels of the tiles in which damage to the preserved region is looked for."""
DISTINCT = 0.1
"""Least distance in RGB (0..sqrt(3)) between a shape and what is below it for its silhouette to be looked for there."""
EDGE = 0.1
"""A pixel that a shape covers by more than this and by less than the rest of 1 is on its edge."""
CHUNK = 8
"""Pictures scored at once: few, as a CPU is faster where they stay in its cache."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What an output must reach to count as a success, all of it.

    colour_error (levels of 255) and colour_share (of the error that the unchanged source has) bound the mean error in
    the edited region; shape_error (levels of 255) bounds the mean error within each shape, and is half the distance of
    the two colours that are most alike, orange and yellow; preserved_db and tile_error (levels of 255, mean over the
    worst tile) guard the rest: PSNR alone would let a small shape that changed pass; overlap is the least IoU, above
    that of a circle and a square.
    """

    colour_error: float = 24.0
    colour_share: float = 0.25
    shape_error: float = 15.0
    preserved_db: float = 28.0
    tile_error: float = 24.0
    overlap: float = 0.9


THRESHOLDS: dict[AnyTask, Thresholds] = {
    task: Thresholds(overlap=0.95 if task == "remove" else 0.9) for task in ALL_TASKS
}


@dataclass(frozen=True, slots=True)
class Score:
    """Measures of one output; errors in levels of 255, PSNR in dB (100 for equal pictures), the rest 0..1.

    source_error is the error in the edited region of the source itself. shape_error is that of the worst shape of the
    truth, None without shapes. preserved_psnr is None where the edit changes every pixel. overlap: IoU of the edited
    shape's silhouette; of a removed one the share that is gone; of all shapes where the background changed, None where
    there are none.
    """

    success: bool
    colour_error: float
    source_error: float
    shape_error: float | None
    preserved_psnr: float | None
    tile_error: float
    overlap: float | None
    psnr: float
    ssim: float


def score(outputs: Tensor, edits: Sequence[Edit]) -> list[Score]:
    """Scores of outputs [N, 3, SIDE, SIDE] (FP32, 0..1) of N edits, in order, computed on the device of the outputs.

    Raises ValueError where there are not as many outputs as edits, or their size is another one.
    """
    expected = (len(edits), 3, SIDE, SIDE)
    if tuple(outputs.shape) != expected:
        raise ValueError(f"outputs have the shape {tuple(outputs.shape)}, {len(edits)} edits need {expected}")
    scores: list[Score] = []
    for start in range(0, len(edits), CHUNK):
        scores += _score_chunk(outputs[start : start + CHUNK].float().clamp(0, 1), edits[start : start + CHUNK])
    return scores


def _score_chunk(outputs: Tensor, edits: Sequence[Edit]) -> list[Score]:
    source = render_scenes([edit.source for edit in edits], outputs.device)
    truth = render_scenes([edit.target for edit in edits], outputs.device)
    region = edited_region(source, truth)
    columns = (
        _region_error(outputs, truth, region),
        _region_error(source, truth, region),
        _shape_error(outputs, truth, edits),
        psnr(outputs, truth, ~region),
        _tile_error(outputs, truth, ~region),
        overlap(outputs, edits),
        psnr(outputs, truth),
        ssim(outputs, truth),
    )
    rows = zip(edits, *(column.tolist() for column in columns), strict=True)
    return [_judged(edit.task, *measures) for edit, *measures in rows]


def _judged(
    task: AnyTask,
    colour_error: float,
    source_error: float,
    shape_error: float,
    preserved: float,
    tile_error: float,
    shapes: float,
    whole: float,
    similarity: float,
) -> Score:
    limits = THRESHOLDS[task]
    # NaN says that there is nothing to measure: no preserved pixel, no shape.
    success = (
        colour_error <= min(limits.colour_error, limits.colour_share * source_error)
        and (math.isnan(shape_error) or shape_error <= limits.shape_error)
        and (math.isnan(preserved) or preserved >= limits.preserved_db)
        and tile_error <= limits.tile_error
        and (math.isnan(shapes) or shapes >= limits.overlap)
    )
    return Score(
        success,
        colour_error,
        source_error,
        None if math.isnan(shape_error) else shape_error,
        None if math.isnan(preserved) else preserved,
        tile_error,
        None if math.isnan(shapes) else shapes,
        whole,
        similarity,
    )


def edited_region(source: Tensor, truth: Tensor) -> Tensor:
    """Pixels that the edit changes, bool [N, H, W]."""
    return (source - truth).abs().amax(1) > CHANGED


def _region_error(picture: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Mean absolute error [N] in levels of 255 inside the region."""
    error = (picture - truth).abs().mean(1) * region
    return 255 * error.sum((1, 2)) / region.sum((1, 2))


def _shape_error(picture: Tensor, truth: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Mean absolute error [N] in levels of 255 within that shape of the truth where it is largest; NaN without one."""
    shapes = scene_tensors(scene_rows([edit.target for edit in edits]).to(picture.device))
    inside = silhouettes(shapes) > 1 - EDGE
    error = ((picture - truth).abs().mean(1)[:, None] * inside).sum((2, 3)) / inside.sum((2, 3))
    return 255 * error.nan_to_num(0.0).amax(1).where((shapes.kind >= 0).any(1), torch.nan)


def _tile_error(picture: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Largest mean [N] over a tile of the absolute error in the region, levels of 255."""
    error = (picture - truth).abs().mean(1) * region
    return 255 * F.avg_pool2d(error[:, None], TILE, TILE // 2).amax((1, 2, 3))


@dataclass(frozen=True, slots=True)
class _Layers:
    """What the silhouettes of an edit are looked for with: shapes, and the scene without them."""

    shapes: tuple[Shape, ...]
    below: Scene
    gone: bool


def _layers(edit: Edit) -> _Layers:
    new = tuple(shape for shape in edit.target.shapes if shape not in edit.source.shapes)
    old = tuple(shape for shape in edit.source.shapes if shape not in edit.target.shapes)
    if new:
        rest = tuple(shape for shape in edit.target.shapes if shape not in new)
        return _Layers(new, replace(edit.target, shapes=rest), gone=False)
    if old:
        return _Layers(old, edit.target, gone=True)
    return _Layers(edit.target.shapes, replace(edit.target, shapes=()), gone=False)


def overlap(outputs: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Overlap [N] of the shape that the edit is about, see ``Score``; NaN where there is no shape.

    A pixel of the output belongs to the silhouette where it is nearer to the shape's colour than to the scene below.
    Pixels where these two are alike are left out, and those on the smooth edge of the true silhouette.
    """
    layers = [_layers(edit) for edit in edits]
    below = render_scenes([layer.below for layer in layers], outputs.device)
    shapes = scene_tensors(
        scene_rows([Scene(layer.below.background, layer.shapes) for layer in layers]).to(outputs.device)
    )
    present = (shapes.kind >= 0)[:, :, None, None]
    coverage = silhouettes(shapes).amax(1)
    true, looked_at = coverage > 0.5, (coverage - 0.5).abs() > 0.5 - EDGE
    seen = torch.zeros_like(true)
    to_below = _distance(outputs, below)
    for slot in range(MAX_SHAPES):
        colour = shapes.rgb[:, slot, :, None, None]
        seen |= (_distance(outputs, colour) < to_below) & present[:, slot]
        looked_at &= (_distance(below, colour) > DISTINCT) | ~present[:, slot]
    both, either = (true & seen & looked_at).sum((1, 2)), ((true | seen) & looked_at).sum((1, 2))
    gone = torch.tensor([layer.gone for layer in layers], device=outputs.device)
    freed = 1 - both / (true & looked_at).sum((1, 2))
    return torch.where(gone, freed, both / either).where(present.flatten(1).any(1), torch.nan)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance in RGB, [N, H, W]."""
    return (first - second).square().sum(1).sqrt()

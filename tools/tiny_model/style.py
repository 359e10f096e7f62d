"""The look that the small style LoRA teaches: shapes with an outline just inside their edge, and the check of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tools.tiny_model.edits import Edit
from tools.tiny_model.render import (
    HALF_PATCH,
    SceneTensors,
    coverage,
    paint_background,
    scene_rows,
    scene_tensors,
    shape_patches,
    stamp,
)

OUTLINE_PX = 4.0
"""Width of the outline in pixels, measured inwards from a shape's edge."""
DARK_OUTLINE, LIGHT_OUTLINE = 15 / 255, 250 / 255
"""Grey levels of the outline (0..1); the light one is for shapes that the dark one could not be seen on."""
DARK_SHAPE = 60 / 255
"""A shape is dark where the mean of its red, green and blue (0..1) is below this."""


def outline_rgb(rgb: Tensor) -> Tensor:
    """Colours [..., 3] (0..1) of the outlines of shapes in the colours ``rgb`` [..., 3]."""
    dark = rgb.mean(-1, keepdim=True) < DARK_SHAPE
    return torch.where(dark, LIGHT_OUTLINE, DARK_OUTLINE).expand_as(rgb)


def outlined(rgb: Tensor, distance: Tensor) -> Tensor:
    """Colours [..., 3, P] within shapes of the colours ``rgb`` [..., 3], at the signed distances [..., P] in pixels."""
    outline = outline_rgb(rgb)[..., None]
    return outline + (rgb[..., None] - outline) * coverage(distance + OUTLINE_PX)[..., None, :]


def paint_outlined(scenes: SceneTensors, half_patch: int = HALF_PATCH) -> Tensor:
    """Pictures FP32 [N, 3, SIDE, SIDE], 0..1, with an outline in each shape; see ``render.paint``."""
    patches = shape_patches(scenes, half_patch)
    colours = outlined(scenes.rgb, patches.distance)
    return stamp(paint_background(scenes), patches, colours, coverage(patches.distance))


def styled_rows(rows: Tensor) -> Tensor:
    """Outlined pictures FP32 [N, 3, SIDE, SIDE], 0..1, of rows [N, ROW] of ``render.scene_rows``, on their device."""
    return paint_outlined(scene_tensors(rows))


def shows_style(outputs: Tensor, edits: Sequence[Edit]) -> list[bool | None]:
    """Whether all shapes of each edit's truth have their outline in its output; None where the truth has no shape.

    outputs are FP32 [N, 3, SIDE, SIDE], 0..1. A shape has it where the pixels that its outline covers whole are nearer
    to the outline's colour than to the shape's own, in the mean of the distances in RGB.
    """
    scenes = scene_tensors(scene_rows([edit.target for edit in edits]).to(outputs.device))
    patches = shape_patches(scenes)
    band = (coverage(patches.distance) == 1) & (coverage(patches.distance + OUTLINE_PX) == 0)
    canvas = patches.canvas(outputs)
    present = scenes.kind >= 0
    shown = torch.ones_like(present)
    for slot in range(present.shape[1]):
        seen = canvas.gather(2, patches.index[:, None, slot].expand(-1, 3, -1))
        own = scenes.rgb[:, slot]
        to_outline, to_own = (_mean_distance(seen, colour, band[:, slot]) for colour in (outline_rgb(own), own))
        shown[:, slot] = to_outline < to_own
    every = (shown | ~present).all(1).tolist()
    return [
        bool(styled) if any_shape else None for styled, any_shape in zip(every, present.any(1).tolist(), strict=True)
    ]


def _mean_distance(pixels: Tensor, colour: Tensor, where: Tensor) -> Tensor:
    """Mean [N] over the pixels ``where`` [N, P] of the distance in RGB between pixels [N, 3, P] and colours [N, 3]."""
    distance = (pixels - colour[..., None]).square().sum(1).sqrt()
    return (distance * where).sum(1) / where.sum(1)

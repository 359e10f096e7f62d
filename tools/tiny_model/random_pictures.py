"""Pictures that the VAE trains on: crops of random scenes beyond those of edits, drawn in batches on a device.

Colours are the palette's or any, shapes have any size, overlap and hang over the border, and some pictures are in the
outlined style. Nothing is copied from the host once the tables are cached, so a CUDA graph can record it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tools.tiny_model.render import (
    ABSENT,
    SceneTensors,
    coverage,
    outline_distance,
    paint_background,
    palettes,
)
from tools.tiny_model.scenes import KINDS, PATTERNS, PLAIN_SHARE, RADIUS, SIDE
from tools.tiny_model.style import outlined

SLOTS = 5
ABSENT_SHARE = 0.25
"""Share of slots without a shape."""
PALETTE_SHARE = 0.7
"""Share of colours that are the palette's; the others are any."""
NAMED_RADIUS_SHARE = 0.5
"""Share of shapes in one of the three sizes of edits; the others have any radius in ``RADII``."""
RADII = (8.0, 56.0)
"""Pixels."""
OVERHANG = 10.0
"""Most pixels by which a shape's centre lies outside its crop."""
OUTLINED_SHARE = 0.2
"""Share of pictures in the outlined style."""


@dataclass(frozen=True)
class Crops:
    """N random scenes, the window into each, and whether it is in the outlined style.

    x and y [N, side] are the centres of the window's pixels, from the whole picture's left and top edge.
    """

    scenes: SceneTensors
    x: Tensor
    y: Tensor
    outlined: Tensor


def random_pictures(count: int, side: int, device: torch.device) -> Tensor:
    """``count`` new pictures FP32 [count, 3, side, side], 0..1; side is at most ``SIDE``."""
    return paint_crops(random_crops(count, side, device))


def random_crops(count: int, side: int, device: torch.device) -> Crops:
    """Windows at whole pixels, and scenes whose shapes lie near them, from torch's default generator of ``device``."""
    assert 0 < side <= SIDE
    left, top = (torch.randint(0, SIDE - side + 1, (count, 1), device=device) for _ in range(2))
    centres = torch.arange(side, device=device) + 0.5
    x, y = left + centres, top + centres
    within = (side + 2 * OVERHANG) * torch.rand(2, count, SLOTS, device=device) - OVERHANG
    shape_palette, background_palette = palettes(device)
    scenes = SceneTensors(
        pattern=_with_share(PLAIN_SHARE, 0.0, torch.randint(1, len(PATTERNS), (count,), device=device).float()),
        first=_colours(background_palette, (count,)),
        second=_colours(background_palette, (count,)),
        kind=_with_share(ABSENT_SHARE, ABSENT, torch.randint(0, len(KINDS), (count, SLOTS), device=device).float()),
        rgb=_colours(shape_palette, (count, SLOTS)),
        radius=_radii(count, device),
        x=left + within[0],
        y=top + within[1],
    )
    return Crops(scenes, x, y, torch.rand(count, device=device) < OUTLINED_SHARE)


def _with_share(share: float, chosen: float | Tensor, others: Tensor) -> Tensor:
    """``chosen`` in the place of that share of the values, at random."""
    return torch.where(torch.rand_like(others) < share, chosen, others)


def _colours(palette: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Colours FP32 [*shape, 3]."""
    any_colour = torch.rand(*shape, 3, device=palette.device)
    named = palette[torch.randint(0, len(palette), shape, device=palette.device)]
    return torch.where(torch.rand(*shape, 1, device=palette.device) < PALETTE_SHARE, named, any_colour)


def _radii(count: int, device: torch.device) -> Tensor:
    least, most = RADII
    any_radius = least + (most - least) * torch.rand(count, SLOTS, device=device)
    sizes = _named_radii(device)
    return _with_share(
        NAMED_RADIUS_SHARE, sizes[torch.randint(0, len(sizes), any_radius.shape, device=device)], any_radius
    )


@cache
def _named_radii(device: torch.device) -> Tensor:
    """Radii of the sizes that edits know; kept, as a CUDA graph cannot copy from the host."""
    return torch.tensor(list(RADIUS.values()), device=device)


def paint_crops(crops: Crops) -> Tensor:
    """Pictures FP32 [N, 3, side, side], 0..1; later slots cover earlier ones."""
    scenes = crops.scenes
    picture = paint_background(scenes, crops.x, crops.y)
    distance = outline_distance(scenes, crops.x[:, None, None, :], crops.y[:, None, :, None])
    for slot in range(distance.shape[1]):
        colours = _fill(scenes.rgb[:, slot], distance[:, slot], crops.outlined)
        picture = picture + (colours - picture) * coverage(distance[:, slot])[:, None]
    return picture


def _fill(rgb: Tensor, distance: Tensor, styled: Tensor) -> Tensor:
    """Colours [N, 3, rows, columns] within shapes of the colours ``rgb`` [N, 3], outlined where ``styled`` [N]."""
    both = outlined(rgb, distance.flatten(1)).view(*rgb.shape, *distance.shape[1:])
    return torch.where(styled[:, None, None, None], both, rgb[:, :, None, None])

"""Draws batches of scenes with smooth edges from signed distances, on any device, without a loop over pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin, sqrt

import torch
from torch import Tensor

from tools.tiny_model.scenes import (
    BACKGROUND_RGB,
    COLOURS,
    KINDS,
    MAX_SHAPES,
    PATTERNS,
    RADIUS,
    REACH,
    SHAPE_RGB,
    SIDE,
    Scene,
)

BAND = 32
"""Pixels across one stripe or one field of the checkerboard."""
ABSENT = -1.0
"""Kind of a slot without a shape in a row of numbers."""
ROW = 3 + 5 * MAX_SHAPES
"""Numbers for one scene: pattern and two colours, then kind, colour, radius, x and y of each slot."""
HALF_PATCH = 46
"""Half the side in pixels of the square in which one shape is drawn: the widest kind at the largest radius fits."""

assert max(RADIUS.values()) * max(REACH.values()) + 2 < HALF_PATCH


@dataclass(frozen=True)
class SceneTensors:
    """A batch of N scenes with S slots each, on one device. Colours are FP32 0..1, lengths pixels.

    pattern [N] and kind [N, S] index ``PATTERNS`` and ``KINDS`` (negative kind: no shape); first and second [N, 3];
    rgb [N, S, 3]; radius, x, y [N, S]. Later slots cover earlier ones.
    """

    pattern: Tensor
    first: Tensor
    second: Tensor
    kind: Tensor
    rgb: Tensor
    radius: Tensor
    x: Tensor
    y: Tensor


def scene_rows(scenes: Sequence[Scene]) -> Tensor:
    """Scenes as numbers, FP32 [N, ROW] on the CPU: what a training run sends to its GPU."""
    return torch.tensor([_row(scene) for scene in scenes], dtype=torch.float32).view(-1, ROW)


def _row(scene: Scene) -> list[float]:
    ground = scene.background
    row: list[float] = [PATTERNS.index(ground.pattern), COLOURS.index(ground.first), COLOURS.index(ground.second)]
    for shape in scene.shapes:
        row += [KINDS.index(shape.kind), COLOURS.index(shape.colour), shape.radius, *shape.centre]
    return row + [ABSENT, 0.0, 1.0, 0.0, 0.0] * (MAX_SHAPES - len(scene.shapes))


def scene_tensors(rows: Tensor) -> SceneTensors:
    """Unpack rows [N, ROW] of ``scene_rows`` on their device, colours looked up in the palette."""
    slots = rows[:, 3:].view(-1, MAX_SHAPES, 5)
    shape_rgb, background_rgb = palettes(rows.device)
    return SceneTensors(
        pattern=rows[:, 0],
        first=background_rgb[rows[:, 1].long()],
        second=background_rgb[rows[:, 2].long()],
        kind=slots[..., 0],
        rgb=shape_rgb[slots[..., 1].long()],
        radius=slots[..., 2],
        x=slots[..., 3],
        y=slots[..., 4],
    )


@cache
def palettes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Colours of shapes and of backgrounds, FP32 [10, 3] each; kept, as a CUDA graph cannot copy from the host."""
    shapes, backgrounds = (
        torch.tensor([palette[colour] for colour in COLOURS], dtype=torch.float32, device=device) / 255
        for palette in (SHAPE_RGB, BACKGROUND_RGB)
    )
    return shapes, backgrounds


def render(rows: Tensor) -> Tensor:
    """Pictures FP32 [N, 3, SIDE, SIDE], 0..1, of rows [N, ROW], on the device of the rows."""
    return paint(scene_tensors(rows))


def render_scenes(scenes: Sequence[Scene], device: torch.device | str = "cpu") -> Tensor:
    """Pictures FP32 [N, 3, SIDE, SIDE], 0..1, of scenes."""
    return render(scene_rows(scenes).to(device))


def paint(scenes: SceneTensors, half_patch: int = HALF_PATCH) -> Tensor:
    """Pictures FP32 [N, 3, SIDE, SIDE]; a shape is cut off ``half_patch`` pixels from its centre."""
    patches = shape_patches(scenes, half_patch)
    return stamp(paint_background(scenes), patches, scenes.rgb[..., None], coverage(patches.distance))


def silhouettes(scenes: SceneTensors, half_patch: int = HALF_PATCH) -> Tensor:
    """Share 0..1 of each pixel that the shape in each slot covers, FP32 [N, S, SIDE, SIDE]."""
    count, slots = scenes.kind.shape
    patches = shape_patches(scenes, half_patch)
    canvas = torch.zeros(count, slots, patches.wide**2, device=scenes.first.device)
    return patches.inner(canvas.scatter_(2, patches.index, coverage(patches.distance)))


@dataclass(frozen=True)
class ShapePatches:
    """A square of P pixels around each of S shapes in N pictures, within a canvas that has a margin of one square.

    index [N, S, P] counts the pixels of the flat canvas; distance [N, S, P] is the signed one to the shape's outline in
    pixels, negative inside, infinite where there is no shape.
    """

    index: Tensor
    distance: Tensor
    half_patch: int

    @property
    def wide(self) -> int:
        """Pixels along each side of the canvas."""
        return SIDE + 4 * self.half_patch

    def canvas(self, pictures: Tensor) -> Tensor:
        """Pictures [N, C, SIDE, SIDE] within their margins, flat and in memory of their own: [N, C, wide^2]."""
        edge = 2 * self.half_patch
        canvas = torch.zeros(*pictures.shape[:2], self.wide, self.wide, dtype=pictures.dtype, device=pictures.device)
        canvas[:, :, edge : edge + SIDE, edge : edge + SIDE] = pictures
        return canvas.flatten(2)

    def inner(self, canvas: Tensor) -> Tensor:
        """The pictures [N, C, SIDE, SIDE] in a flat canvas."""
        edge = 2 * self.half_patch
        whole = canvas.view(*canvas.shape[:2], self.wide, self.wide)
        return whole[:, :, edge : edge + SIDE, edge : edge + SIDE].contiguous()


def stamp(pictures: Tensor, patches: ShapePatches, colours: Tensor, shares: Tensor) -> Tensor:
    """Pictures [N, 3, SIDE, SIDE] with shapes on them, the last slot on top.

    colours [N, S, 3, P], or [N, S, 3, 1] for flat ones; shares [N, S, P] (0..1) say how much of a pixel is covered.
    """
    canvas = patches.canvas(pictures)
    for slot in range(shares.shape[1]):
        where = patches.index[:, None, slot].expand(-1, 3, -1)
        below = canvas.gather(2, where)
        canvas.scatter_(2, where, below + (colours[:, slot] - below) * shares[:, None, slot])
    return patches.inner(canvas)


def shape_patches(scenes: SceneTensors, half_patch: int = HALF_PATCH) -> ShapePatches:
    """The squares of side ``2 * half_patch`` around all shapes.

    The canvas has a margin of one patch on each side, so that no index needs a check. A shape further out than that is
    moved to the margin's edge, where nobody sees it.
    """
    span = torch.arange(2 * half_patch, device=scenes.x.device)
    left, top = (
        (torch.floor(centre) - half_patch).clamp(-2 * half_patch, SIDE).long() for centre in (scenes.x, scenes.y)
    )
    column, row = (left[..., None] + span)[..., None, :], (top[..., None] + span)[..., :, None]
    distance = outline_distance(scenes, column + 0.5, row + 0.5)
    index = (row + 2 * half_patch) * (SIDE + 4 * half_patch) + (column + 2 * half_patch)
    return ShapePatches(index.flatten(2), distance.flatten(2), half_patch)


def outline_distance(scenes: SceneTensors, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance in pixels to each shape's outline, [N, S, rows, columns]; infinite where there is no shape.

    x [N or 1, S or 1, 1, columns] and y [N or 1, S or 1, rows, 1] are pixels from the left and from the top edge.
    """
    kind, radius = scenes.kind[..., None, None], scenes.radius[..., None, None]
    u, v = (x - scenes.x[..., None, None]) / radius, (y - scenes.y[..., None, None]) / radius
    return (signed_distance(kind, u, v) * radius).masked_fill(kind < 0, torch.inf)


def coverage(distance: Tensor) -> Tensor:
    """Share 0..1 of a pixel that lies inside an outline at that signed distance in pixels: a smooth edge."""
    return (0.5 - distance).clamp(0, 1)


def paint_background(scenes: SceneTensors, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    """Backgrounds alone, FP32 [N, 3, rows, columns], of whole pictures by default.

    x [N, columns] and y [N, rows] choose the pixels of each picture, by their centres from the left and the top edge.
    """
    count, device = len(scenes.pattern), scenes.first.device
    whole = (torch.arange(SIDE, device=device) + 0.5)[None]
    shares = _pattern_shares(whole if x is None else x, whole if y is None else y)
    each = torch.arange(count, device=device)
    share = shares.expand(count, -1, -1, -1)[each, scenes.pattern.long()][:, None]
    first, second = scenes.first[:, :, None, None], scenes.second[:, :, None, None]
    return first + (second - first) * share


def _pattern_shares(x: Tensor, y: Tensor) -> Tensor:
    """Share of the second colour in each pattern, [N, patterns, rows, columns], at x [N, columns] and y [N, rows]."""
    x, y = x[:, None, :], y[:, :, None]
    odd_x, odd_y = torch.floor(x / BAND) % 2, torch.floor(y / BAND) % 2
    flat = torch.zeros_like(x + y)
    shares = [flat, y / SIDE + flat, x / SIDE + flat, odd_y + flat, odd_x + flat, _diagonal(x, y), (odd_x + odd_y) % 2]
    return torch.stack(shares, 1)


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    """Stripes that rise to the right, ``BAND`` pixels across, with smooth edges: 0 first, in the top left corner."""
    across = ((x + y) / sqrt(2)) % (2 * BAND)
    edge = torch.minimum(across - BAND, 2 * BAND - across)
    return (0.5 + torch.maximum(edge, -across)).clamp(0, 1)


def signed_distance(kind: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Distance in radii to the outline, negative inside; u to the right, v down from the centre, kinds by index.

    Near an outline it is the distance to it; further off it only has the right sign.
    """
    side = u.abs()
    distance = _DISTANCES[0](side, v)
    for index, outline in enumerate(_DISTANCES[1:], start=1):
        distance = torch.where(kind == index, outline(side, v), distance)
    return distance


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.sqrt(u * u + v * v) - 1.0


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u, v.abs()) - 0.86


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    """Corners (0, -1) and (+-0.98, 0.75): under the base line, and beyond the slope through both."""
    slope = (1.75 * u - 0.98 * (v + 1.0)) / sqrt(1.75**2 + 0.98**2)
    return torch.maximum(slope, v - 0.75)


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five tips at radius 1.08 and five notches at half of it.

    Along the axis of the nearest tip the star is one edge, from the tip to the notch 36 degrees aside.
    """
    tips = [72.0 * number * pi / 180 for number in range(3)]
    along = torch.stack([sin(tip) * u - cos(tip) * v for tip in tips]).amax(0)
    aside = torch.sqrt((u * u + v * v - along * along).clamp(min=0))
    tip, notch_aside, notch_along = 1.08, 0.54 * sin(pi / 5), 0.54 * cos(pi / 5)
    rise, run = tip - notch_along, notch_aside
    return (rise * aside + run * (along - tip)) / sqrt(rise**2 + run**2)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.sqrt(u * u + v * v) - 0.74).abs() - 0.26


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    return (u + v.abs() - 1.12) / sqrt(2)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square on its corner and a circle over each upper side, whose diameter that side is."""
    unit = 1 / 0.6
    square = (u + (v - 0.06 * unit).abs() - 0.5 * unit) / sqrt(2)
    lobe = torch.sqrt((u - 0.25 * unit) ** 2 + (v + 0.19 * unit) ** 2) - sqrt(0.125) * unit
    return torch.minimum(square, lobe)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    height = v.abs()
    across = torch.maximum(u - 0.96, height - 0.33)
    upright = torch.maximum(u - 0.33, height - 0.96)
    return torch.minimum(across, upright)


# In the order of KINDS; each takes |u|, as every kind is its own mirror image.
_DISTANCES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _circle,
    _square,
    _triangle,
    _star,
    _ring,
    _diamond,
    _heart,
    _cross,
)

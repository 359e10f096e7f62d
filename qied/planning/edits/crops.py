"""The crop that a pass is drawn in: where it lies on the picture, and the grid that it is drawn on. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from qied.edit import PassSpec
from qied.planning.edits.geometry import MAX_ASPECT, proportional, rounded_up_area
from qied.planning.edits.view import Box, View
from qied.planning.profiles.model_profile import ModelProfile

Size = tuple[int, int]
Edges = tuple[int, int, int, int]
"""Left, top, right and bottom in whole pixels."""
MOST_ENLARGED: Final = 4.0
"""A small crop is brought to the model's own size, but a side not to more than so many times its pixels."""
LEAST_CONTEXT: Final = 32
"""Pixels around a region that a crop has where its context is left to the model, however large the region is."""
_FEATHERED: Final = 4
"""The rim takes at most one part in so many of the region's shorter side on each side: a small region is drawn too."""


@dataclass(frozen=True)
class Crop:
    """The part ``edges`` of a picture of ``canvas`` (width, height) pixels, on a grid of ``width`` x ``height``.

    It takes the grid but for the last ``columns`` and ``rows``.
    """

    canvas: Size
    edges: Edges
    width: int
    height: int
    columns: int
    rows: int

    @property
    def size(self) -> Size:
        """Width and height in the picture's pixels."""
        left, top, right, bottom = self.edges
        return right - left, bottom - top

    @property
    def content(self) -> Size:
        """Width and height of what the picture takes of the grid."""
        return self.width - self.columns, self.height - self.rows

    def view(self, size: Size, grid: Size | None = None) -> View:
        """The same part of another picture of ``size`` that lies under this one, on this grid or a smaller one."""
        own = View(self.width, self.height, "lanczos", self.columns, self.rows, self.box_on(size))
        return own if grid is None or grid == own.size else own.on_grid(grid, self.box_on(size))

    def box_on(self, size: Size) -> Box:
        """The part in pixels of another picture that has the same proportions."""
        across, down = size[0] / self.canvas[0], size[1] / self.canvas[1]
        left, top, right, bottom = self.edges
        return (left * across, top * down, min(right * across, size[0]), min(bottom * down, size[1]))


def crop_of(each: PassSpec, canvas: Size, profile: ModelProfile) -> Crop:
    """The crop of a pass over a picture of ``canvas`` (width, height) pixels.

    Its sides on the grid are multiples of the model's; to get there the crop takes in more of the picture, and past the
    picture's edge the grid is filled up. Nothing is stretched.
    """
    multiple = profile.geometry.side_multiple
    own = rounded_up_area(profile.geometry.vae_pixels, multiple)
    region = clipped(each.box, canvas)
    grown = _grown(region, _padding(each, region, canvas, own), canvas)
    most = max(each.max_pixels, multiple * multiple)
    scale = each.scale or _own_scale(grown, canvas, min(profile.geometry.vae_pixels, most))
    crop = _on_grid(grown, canvas, scale, multiple)
    while crop.width * crop.height > most:
        scale *= min(0.98, math.sqrt(most / (crop.width * crop.height)))
        crop = _on_grid(grown, canvas, scale, multiple)
    return crop


def feather_of(each: PassSpec, region: Edges) -> int:
    """Pixels of a region's rim that fade: what was asked for, less where the region is small."""
    left, top, right, bottom = region
    return min(each.feather, (min(right - left, bottom - top) - 1) // _FEATHERED)


def clipped(box: Edges, canvas: Size) -> Edges:
    """The part of a box that lies on a picture; at least one pixel."""
    left, top = min(box[0], canvas[0] - 1), min(box[1], canvas[1] - 1)
    return left, top, max(left + 1, min(box[2], canvas[0])), max(top + 1, min(box[3], canvas[1]))


def lies_under(picture: Size, canvas: Size) -> bool:
    """Whether a picture shows the same place at the same place, so that it can be cropped alike."""
    return proportional(picture, canvas)


def _own_scale(edges: Edges, canvas: Size, area: int) -> float:
    """Such that a crop has about the area that the model was trained at; all of a picture keeps its size."""
    left, top, right, bottom = edges
    width, height = right - left, bottom - top
    if (width, height) == canvas:
        return 1.0
    return min(MOST_ENLARGED, max(1.0, math.sqrt(area / (width * height))))


def _padding(each: PassSpec, region: Edges, canvas: Size, area: int) -> int:
    """Pixels on each side: what was asked for, or more by the pass's context while the crop keeps within ``area``."""
    left, top, right, bottom = region
    most = math.ceil(each.context * max(right - left, bottom - top))

    def beyond(padding: int) -> bool:
        """Whether a crop has more pixels of the picture than the model draws at its own size."""
        across = min(right + padding, canvas[0]) - max(left - padding, 0)
        down = min(bottom + padding, canvas[1]) - max(top - padding, 0)
        return across * down > area

    fits = bisect_left(range(1, most + 1), True, key=beyond)
    return max(each.padding, fits, min(most, LEAST_CONTEXT))


def _grown(box: Edges, padding: int, canvas: Size) -> Edges:
    """A box with its padding; a very long one is made wider, since no model draws a line."""
    left, top, right, bottom = box
    longest = max(min(right - left + 2 * padding, canvas[0]), min(bottom - top + 2 * padding, canvas[1]))
    least = -(-longest // MAX_ASPECT)
    left, right = _widened(left, right, padding, least, canvas[0])
    top, bottom = _widened(top, bottom, padding, least, canvas[1])
    return left, top, right, bottom


def _widened(start: int, end: int, padding: int, least: int, length: int) -> tuple[int, int]:
    """One side of a box with its padding, at least ``least`` long where the picture has room for that."""
    start, end = max(0, start - padding), min(length, end + padding)
    missing = max(0, min(least, length) - (end - start))
    start = min(max(0, start - missing // 2), length - (end - start + missing))
    return start, max(end, start + min(least, length)) if missing else end


def _on_grid(edges: Edges, canvas: Size, scale: float, multiple: int) -> Crop:
    left, right, width, columns = _side(edges[0], edges[2], canvas[0], scale, multiple)
    top, bottom, height, rows = _side(edges[1], edges[3], canvas[1], scale, multiple)
    return Crop(canvas, (left, top, right, bottom), width, height, columns, rows)


def _side(start: int, end: int, length: int, scale: float, multiple: int) -> tuple[int, int, int, int]:
    """One side of a crop that has at least ``start`` to ``end``: where it lies, its grid, and what is filled up."""
    grid = max(multiple, math.ceil(round((end - start) * scale, 6) / multiple) * multiple)
    taken = min(length, max(end - start, math.floor(grid / scale)))
    start = min(max(0, start - (taken - (end - start)) // 2), length - taken)
    return start, start + taken, grid, grid - min(grid, max(1, round(taken * scale)))

"""A view of a picture: all that is kept of it, at a size and a place that a model wants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Filter = Literal["lanczos", "box", "opacity", "area"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of a picture, which need not be whole."""


@dataclass(frozen=True)
class View:
    """A picture, or the part of it in ``box``, on a grid of ``width`` x ``height`` pixels.

    It is reduced (or enlarged) with a filter to ``content``; then its last column is repeated ``columns`` times, and
    its last row ``rows`` times. So it keeps its proportions whatever the grid is. The filter
    ``opacity`` gives the opacity alone, 255 where the picture is opaque. ``area`` is torch's ``interpolate`` with the
    mode "area", and gives colours FP32 from 0 to 1. With ``scaled``, a width and a height, the picture, or the part of
    it in ``box``, is cut out and brought to that size with Lanczos first.
    """

    width: int
    height: int
    filter: Filter = "lanczos"
    columns: int = 0
    rows: int = 0
    box: Box | None = None
    scaled: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the grid."""
        return self.width, self.height

    def on_grid(self, grid: tuple[int, int], box: Box) -> View:
        """The same on another grid, of the part ``box`` of another picture: both grids show the same at the same place.

        Of what is filled up a part of a pixel may be left over there, so as much of the picture stays out.
        """
        left, top, right, bottom = box
        across, columns = _share(self.content[0] * grid[0] / self.width, grid[0])
        down, rows = _share(self.content[1] * grid[1] / self.height, grid[1])
        inner = (left, top, left + (right - left) * across, top + (bottom - top) * down)
        return View(*grid, self.filter, columns, rows, inner)

    @property
    def content(self) -> tuple[int, int]:
        """Width and height of what the picture itself takes of the grid."""
        return self.width - self.columns, self.height - self.rows


def _share(content: float, grid: int) -> tuple[float, int]:
    """Of a side that takes ``content`` of a grid: the part of it that whole pixels hold, and the pixels that remain."""
    whole = max(1, math.floor(content + 1e-6))
    return min(1.0, whole / content), grid - whole

"""A view of a picture: all that is kept of it, at a size and a place that a model wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Filter = Literal["lanczos", "box", "opacity"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of a picture, which need not be whole."""


@dataclass(frozen=True)
class View:
    """A picture, or the part of it in ``box``, on a grid of ``width`` x ``height`` pixels.

    It is reduced (or enlarged) with a filter to ``content``; then its last column is repeated ``columns`` times, and
    its last row ``rows`` times. So it keeps its proportions whatever the grid is. The filter
    ``opacity`` gives the opacity alone, 255 where the picture is opaque.
    """

    width: int
    height: int
    filter: Filter = "lanczos"
    columns: int = 0
    rows: int = 0
    box: Box | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the grid."""
        return self.width, self.height

    @property
    def content(self) -> tuple[int, int]:
        """Width and height of what the picture itself takes of the grid."""
        return self.width - self.columns, self.height - self.rows

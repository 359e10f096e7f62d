"""A view of a picture: all that is kept of it, at a size that a model wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Filter = Literal["lanczos", "box", "opacity"]


@dataclass(frozen=True)
class View:
    """A picture reduced (or enlarged) to ``width`` x ``height`` pixels with a filter.

    The filter ``opacity`` gives its opacity alone, 255 where it is opaque. Before that, the picture's last column is
    repeated ``columns`` times, and its last row ``rows`` times.
    """

    width: int
    height: int
    filter: Filter = "lanczos"
    columns: int = 0
    rows: int = 0

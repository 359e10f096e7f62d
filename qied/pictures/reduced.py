"""A picture of which only the views that an edit needs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qied_client.picture_file.marks import Marks
from qied_client.pixels.opacity import Guess

from qied.planning.edits.view import Filter, View

# Opacity is reduced without overshoot, which would leave a faint veil beside sharp edges.
_RESAMPLING: Final[Mapping[Filter, Image.Resampling]] = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "opacity": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
}
NO_MARKS: Final = Marks()


@dataclass(frozen=True)
class ReducedPicture:
    """Stands for an upright picture of ``size`` (width, height) pixels wherever it is only ever seen in some views.

    ``guess``: what a mask was taken for that could mean several things. ``marks`` are those in its file.
    """

    size: tuple[int, int]
    views: Mapping[View, Image.Image]
    guess: Guess = ""
    marks: Marks = NO_MARKS

    @property
    def opacity(self) -> Image.Image | None:
        """Its opacity ("L"), if that is one of its forms."""
        return next((image for view, image in self.views.items() if view.filter == "opacity"), None)

    def view(self, view: View) -> Image.Image:
        """One of the views, with the same bytes as if it were made of the whole picture now."""
        assert view in self.views, f"{view} was not asked for: {list(self.views)}"
        return self.views[view]

    def resize(self, size: tuple[int, int], resample: int, /) -> Image.Image:
        """The view of the whole picture at a size."""
        filters = (Image.Resampling.LANCZOS, Image.Resampling.BOX)
        return self.view(View(*size, "lanczos" if resample == filters[0] else "box"))

    def with_views(self, views: Mapping[View, Image.Image]) -> ReducedPicture:
        """The same picture with other views besides its own."""
        return replace(self, views={**self.views, **views})


def view_of(picture: Image.Image, view: View) -> Image.Image:
    """Make a view of a whole picture: its part, reduced (or enlarged), and extended to the grid.

    A view with the filter ``area`` is an image of the mode "F" and three times as wide: the colours of a pixel lie side
    by side, see ``colours_of``.
    """
    box = view.box
    if view.scaled is not None:
        # Cut out first: with a box, Pillow's filter would see what lies beyond it.
        part = picture if box is None else picture.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))
        picture, box = part.resize(view.scaled, Image.Resampling.LANCZOS), None
    if view.filter == "area":
        return _side_by_side(averaged(picture, view.size))
    content = picture.resize(view.content, resampling(view), box)
    return extended(content, view.columns, view.rows)


def averaged(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """The means FP32 [height, width, 3], from 0 to 1, of the pixels that each pixel of ``size`` covers in part.

    That is torch's ``adaptive_avg_pool2d``; sums are exact here, and rounded once.
    """
    levels = np.asarray(picture.convert("RGB"))
    rows, columns = levels.shape[:2]
    width, height = size
    left, right = _covered(columns, width)
    top, bottom = _covered(rows, height)
    means = np.empty((height, width, 3), np.float32)
    sums = np.zeros((columns + 1, 3), np.int64)
    for row in range(height):
        np.cumsum(levels[top[row] : bottom[row]].sum(axis=0, dtype=np.int64), axis=0, out=sums[1:])
        counts = (right - left) * (bottom[row] - top[row]) * 255
        means[row] = (sums[right] - sums[left]) / counts[:, None]
    return means


def colours_of(picture: Image.Image) -> NDArray[np.float32]:
    """The colours FP32 [height, width, 3], from 0 to 1, of a view with the filter ``area``."""
    return np.array(picture).reshape(picture.height, -1, 3)  # a copy: torch takes none that is read-only


def _side_by_side(colours: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(colours.reshape(len(colours), -1))


def _covered(count: int, parts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of each of so many parts of a side, and the one after its last; parts share pixels."""
    place = np.arange(parts, dtype=np.int64)
    return place * count // parts, -(-(place + 1) * count // parts)


def extended(picture: Image.Image, columns: int, rows: int) -> Image.Image:
    """A picture with its last column and then its last row repeated so many times; itself where that is never."""
    if not (columns or rows):
        return picture
    width, height = picture.size
    wider = Image.new(picture.mode, (width + columns, height + rows))
    wider.paste(picture, (0, 0))
    if columns:
        wider.paste(picture.crop((width - 1, 0, width, height)).resize((columns, height)), (width, 0))
    if rows:
        last = wider.crop((0, height - 1, width + columns, height))
        wider.paste(last.resize((width + columns, rows)), (0, height))
    return wider


def resampling(view: View) -> Image.Resampling:
    """Pillow's name of a view's filter."""
    return _RESAMPLING[view.filter]

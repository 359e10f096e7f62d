"""A picture of which only the views that an edit needs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image
from qied_client.picture_file.marks import Marks
from qied_client.pixels.opacity import Guess

from qied.planning.view import Filter, View

# Opacity is reduced without overshoot, which would leave a faint veil beside sharp edges.
_RESAMPLING: Final[Mapping[Filter, Image.Resampling]] = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "opacity": Image.Resampling.BILINEAR,
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
    """Make a view of a whole picture: its part, reduced (or enlarged), and extended to the grid."""
    content = picture.resize(view.content, resampling(view), view.box)
    return extended(content, view.columns, view.rows)


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

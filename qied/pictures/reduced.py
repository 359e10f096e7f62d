"""A picture of which only the reduced forms that an edit needs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image
from qied_client.picture_file.marks import Marks

from qied.pictures.mask import Guess
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
    """Stands for an upright picture of ``size`` (width, height) pixels wherever it is only ever resized.

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

    def resize(self, size: tuple[int, int], resample: int, /) -> Image.Image:
        """The picture in one of its reduced forms, with the same bytes as if the whole one were resized now."""
        for view, image in self.views.items():
            if view.filter != "opacity" and (view.width, view.height) == size and resampling(view) == resample:
                return image
        raise AssertionError(f"{size} with filter {resample} was not asked for: {list(self.views)}")

    def with_views(self, views: Mapping[View, Image.Image]) -> ReducedPicture:
        """The same picture with other forms besides its own."""
        return replace(self, views={**self.views, **views})


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

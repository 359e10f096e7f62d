"""A picture of which only the reduced forms that an edit needs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from PIL import Image

from qied.planning.view import View


@dataclass(frozen=True)
class ReducedPicture:
    """Stands for an upright picture of ``size`` (width, height) pixels wherever it is only ever resized."""

    size: tuple[int, int]
    views: Mapping[View, Image.Image]

    def resize(self, size: tuple[int, int], resample: int, /) -> Image.Image:
        """The picture in one of its reduced forms, with the same bytes as if the whole one were resized now."""
        for view, image in self.views.items():
            if (view.width, view.height) == size and resampling(view) == resample:
                return image
        raise AssertionError(f"{size} with filter {resample} was not asked for: {list(self.views)}")

    def with_views(self, views: Mapping[View, Image.Image]) -> ReducedPicture:
        """The same picture with other forms besides its own."""
        return replace(self, views={**self.views, **views})


def resampling(view: View) -> Image.Resampling:
    """Pillow's name of a view's filter."""
    return Image.Resampling.LANCZOS if view.filter == "lanczos" else Image.Resampling.BOX

"""A pass over a region: what it is drawn over, what of that may change, and how the two become one picture again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from qied.edit import PassSpec
from qied.engine.edits.context import Drawing, EditInputs
from qied.engine.edits.mask import KeptSource, black_and_white, editable_tokens
from qied.engine.edits.preview import MAX_SIDE
from qied.engine.vae.vae import Vae
from qied.pictures.reduced import extended, view_of
from qied.planning.edits.crops import Crop, clipped, feather_of
from qied.planning.edits.views import pass_mask_view


def region_marks(inputs: EditInputs, each: PassSpec, drawing: Drawing) -> Image.Image:
    """The region of a pass on its crop, in the picture's own pixels ("L"): 255 where it may change, else 0."""
    crop = drawing.crop
    assert crop is not None
    marks = Image.new("L", crop.size)
    left, top, _, _ = crop.edges
    box = clipped(each.box, crop.canvas)
    marks.paste(255, (box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    if each.mask is None:
        return marks
    painted = black_and_white(inputs.seen(each.mask, pass_mask_view(inputs.spec))).crop(crop.edges)
    return Image.composite(painted, Image.new("L", crop.size), marks)


@dataclass(frozen=True)
class Below:
    """A ``picture`` that a pass is drawn over, where ``marks`` ("L", of the crop's size) is white."""

    picture: Image.Image
    marks: Image.Image
    drawing: Drawing

    @property
    def crop(self) -> Crop:
        """Where the pass is drawn."""
        assert self.drawing.crop is not None
        return self.drawing.crop

    @property
    def view(self) -> Image.Image:
        """The crop on the grid of the pass."""
        return view_of(self.picture, self.crop.view(self.picture.size))

    @cached_property
    def alpha(self) -> Image.Image:
        """How much of each pixel of the crop is the pass's, 0 to 255; 0 outside the region."""
        assert self.drawing.over is not None
        region = clipped(self.drawing.over.box, self.crop.canvas)
        return feathered(self.marks, feather_of(self.drawing.over, region), _at_edges(self.crop))

    def kept(self, vae: Vae, start: Tensor, noise: Tensor) -> KeptSource | None:
        """What stays in the latents at each step, as in a masked edit; None where everything may change."""
        if self.marks.getextrema() == (255, 255):
            return None
        fitted = self.marks.resize(self.crop.content, Image.Resampling.BOX)
        grid = extended(fitted, self.crop.columns, self.crop.rows)
        return KeptSource(start.float(), noise, editable_tokens(grid, vae.channels, vae.cell).to(start.device))

    def with_drawn(self, drawn: Image.Image) -> Image.Image:
        """The picture with what was drawn on the grid in its place; outside the region every pixel is as it was."""
        content = drawn.crop((0, 0, *self.crop.content))
        if content.size != self.crop.size:
            content = content.resize(self.crop.size, Image.Resampling.LANCZOS)
        merged = self.picture.copy()
        blended = Image.composite(content, self.picture.crop(self.crop.edges), self.alpha)
        merged.paste(blended, self.crop.edges[:2])
        return merged

    def with_preview(self, preview: Image.Image) -> Image.Image:
        """A small picture of the whole, with a preview of what is drawn in its place."""
        small = self.picture.copy()
        small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
        scale = small.width / self.picture.width
        left, top, right, bottom = (round(edge * scale) for edge in self.crop.edges)
        size = max(1, right - left), max(1, bottom - top)
        taken = (self.crop.content[0] / self.crop.width, self.crop.content[1] / self.crop.height)
        box = (0.0, 0.0, preview.width * taken[0], preview.height * taken[1])
        place = preview.resize(size, Image.Resampling.BOX, box)
        small.paste(place, (left, top), self.alpha.resize(size, Image.Resampling.BOX))
        return small


Sides = tuple[bool, bool, bool, bool]
"""Left, top, right and bottom."""


def _at_edges(crop: Crop) -> Sides:
    """Which sides of a crop are the picture's own: nothing fades there."""
    left, top, right, bottom = crop.edges
    return left == 0, top == 0, right == crop.canvas[0], bottom == crop.canvas[1]


def feathered(marks: Image.Image, feather: int, at_edges: Sides) -> Image.Image:
    """Marks ("L", black and white) whose rim of ``feather`` pixels fades inwards, twice that to be whole.

    What is black stays 0: a pixel is above 0 only if a square of marked pixels reaches it. Where the feather would take
    all that is marked, it is halved until it does not. What lies beyond the sides in ``at_edges`` counts as marked like
    the pixels there, beyond the others as black.
    """
    white = (np.asarray(marks) > 0).astype(np.int32)
    while feather > 0:
        side = 2 * feather + 1
        inner = (_window_sums(_surrounded(white, 2 * feather, at_edges), side) == side * side).astype(np.int32)
        if inner.any() or not white.any():
            share = _window_sums(inner, side)
            return Image.fromarray(((share * 255 + side * side // 2) // (side * side)).astype(np.uint8))
        feather //= 2
    return marks


def _surrounded(white: NDArray[np.int32], by: int, at_edges: Sides) -> NDArray[np.int32]:
    left, top, right, bottom = at_edges
    like_edge = ((by * top, by * bottom), (by * left, by * right))
    black = ((by * (not top), by * (not bottom)), (by * (not left), by * (not right)))
    return np.pad(np.pad(white, like_edge, mode="edge"), black)


def _window_sums(values: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """Sums over all whole windows of ``side`` x ``side`` in [rows, columns]; each way gets shorter by ``side`` - 1."""
    for axis in (0, 1):
        sums = np.cumsum(np.insert(values, 0, 0, axis=axis), axis=axis, dtype=np.int32)
        count = values.shape[axis] - side + 1
        values = np.take(sums, range(side, side + count), axis) - np.take(sums, range(count), axis)
    return values

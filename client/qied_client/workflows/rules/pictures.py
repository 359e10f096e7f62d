"""Pictures of files and their sizes. The daemon scales pictures by itself, so of scaling the size alone counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.picture_header import PictureLimits
from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import MaskFile, PictureFile, cropped, middle

KONTEXT_SIZES: Final[tuple[v.Size, ...]] = tuple(
    size
    for short, long in (
        (672, 1568),
        (688, 1504),
        (720, 1456),
        (752, 1392),
        (800, 1328),
        (832, 1248),
        (880, 1184),
        (944, 1104),
        (1024, 1024),
    )
    for size in dict.fromkeys(((short, long), (long, short)))
)
"""Width and height in pixels that FluxKontextImageScale chooses from."""
_MEGAPIXEL: Final = 1024 * 1024
_MOST: Final = PictureLimits()
_SEEN_STRETCH: Final = 0.02
"""A change of proportions that can be seen."""


def kontext_size(width: int, height: int) -> v.Size:
    """The size of FluxKontextImageScale for a picture: the nearest in width / height, the narrower of two as near."""
    proportions = width / height
    return min(KONTEXT_SIZES, key=lambda size: (abs(proportions - size[0] / size[1]), size))


def _load(here: Here) -> object:
    name = here.text("image")
    file = PictureFile(name)
    size = here.size(file)
    here.became(f"the picture {file.plain_name}" + (f", {size[0]} x {size[1]} pixels" if size else ""))
    return v.Shown(file, size), MaskFile(name, "alpha")


def _kontext(here: Here) -> object:
    shown = here.take("image", v.Shown)
    if shown.size is None:
        here.became("a size of the model")
        return replace(shown, uncut=shown.file)
    size = kontext_size(*shown.size)
    here.became(f"{size[0]} x {size[1]} pixels, a size of the model")
    whole = shown.file if shown.size == own_size(here, shown) else None
    return replace(shown, file=in_the_middle(here, shown, size), size=size, uncut=whole)


def _scaled(here: Here) -> object:
    shown = here.take("image", v.Shown)
    width, height = here.integer("width", 0), here.integer("height", 0)
    size = shown.size
    if size is None or (width == 0 and height == 0):
        return sized(here, shown, size)
    width = width or max(1, round(size[0] * height / size[1]))
    height = height or max(1, round(size[1] * width / size[0]))
    _check_size(here, (width, height))
    if here.text("crop", "disabled") == "center":
        shown = replace(shown, file=in_the_middle(here, shown, (width, height)))
    return sized(here, shown, (width, height))


def _scaled_by(here: Here) -> object:
    shown, factor = here.take("image", v.Shown), here.above_zero("scale_by", 1.0)
    return sized(here, shown, None if shown.size is None else _times(shown.size, factor, 1))


def _to_megapixels(here: Here) -> object:
    shown, megapixels = here.take("image", v.Shown), here.above_zero("megapixels", 1.0)
    step = max(1, here.integer("resolution_steps", 1))
    if shown.size is None:
        return sized(here, shown, None)
    factor = math.sqrt(int(megapixels * _MEGAPIXEL) / (shown.size[0] * shown.size[1]))
    return sized(here, shown, _times(shown.size, factor, step))


def _to_longest(here: Here) -> object:
    shown, longest = here.take("image", v.Shown), round(here.above_zero("largest_size", 512))
    if shown.size is None:
        return sized(here, shown, None)
    width, height = shown.size
    size = (round(width / height * longest), longest) if height > width else (longest, round(height / width * longest))
    return sized(here, shown, (max(1, size[0]), max(1, size[1])))


def _times(size: v.Size, factor: float, step: int) -> v.Size:
    width, height = (max(step, round(side * factor / step) * step) for side in size)
    return width, height


def _check_size(here: Here, size: v.Size) -> None:
    """Raise Refused for a size that no picture may have: scaling to it would take all memory."""
    if min(size) < 1 or max(size) > _MOST.max_side or size[0] * size[1] > _MOST.max_pixels:
        here.refuse(
            f"it scales to {size[0]} x {size[1]} pixels; the limit is {_MOST.max_side} pixels a side and "
            f"{_MOST.max_pixels:,} in all.",
            "Choose a size within that.",
        )


def sized(here: Here, shown: v.Shown, size: v.Size | None) -> v.Shown:
    """The picture at another size: a note alone, but for the latents' size. Raises Refused for an impossible one."""
    differs = ""
    if size is not None:
        _check_size(here, size)
        own = own_size(here, shown)
        if abs(math.log((size[0] / size[1]) / (own[0] / own[1]))) > _SEEN_STRETCH:
            differs = "Pictures keep their proportions; ComfyUI stretches this one."
        elif size[0] * size[1] < min(own[0] * own[1], _MEGAPIXEL) / 2:
            differs = "The model sees more details: pictures are scaled to its own size, not to this one."
        here.became(f"{size[0]} x {size[1]} pixels, which count where this is the size of the result", differs)
    else:
        here.became("a size, which counts where it is that of the result")
    return replace(shown, size=size, uncut=None)


def own_size(here: Here, shown: v.Shown) -> v.Size:
    """The size of the part of the file that counts."""
    return here.size(shown.file) or shown.size or (1, 1)


def in_the_middle(here: Here, shown: v.Shown, size: v.Size) -> PictureFile:
    """The file less what is cut away on both sides for a size; nothing is cut where the proportions are the same."""
    own = own_size(here, shown)
    part = middle(own, *size)
    return shown.file if part is None else replace(cropped(shown.file, own, part), scaled=size)


def _cut(here: Here) -> object:
    shown = here.take("image", v.Shown)
    own = own_size(here, shown)
    part = (here.integer("x", 0), here.integer("y", 0), here.integer("width", 512), here.integer("height", 512))
    if min(part[:2]) < 0 or min(part[2:]) < 1:
        here.refuse("its part has no pixels, or begins outside.", "Choose x, y, width and height within the picture.")
    if shown.size is not None and shown.size != own:
        scale = (own[0] / shown.size[0], own[1] / shown.size[1])
        part = (
            *(round(part[0] * scale[0]), round(part[1] * scale[1])),
            *(max(1, round(part[2] * scale[0])), max(1, round(part[3] * scale[1]))),
        )
    file = cropped(shown.file, own, part)
    size = None if shown.size is None else (here.integer("width", 512), here.integer("height", 512))
    here.became(f"a part of the picture, {part[2]} x {part[3]} pixels")
    return v.Shown(file, here.size(file) if size is None or shown.size == own else size)


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "LoadImage": _load,
    "LoadImageOutput": _load,
    "FluxKontextImageScale": _kontext,
    "ImageScale": _scaled,
    "ImageScaleBy": _scaled_by,
    "ImageScaleToTotalPixels": _to_megapixels,
    "ImageScaleToMaxDimension": _to_longest,
    "ImageCrop": _cut,
}

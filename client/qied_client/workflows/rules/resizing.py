"""Nodes that bring pictures to another size in one of several ways, which an input of theirs names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import MaskFile, PictureFile, cropped
from qied_client.workflows.rules.pictures import in_the_middle, own_size, sized

_MEGAPIXEL: Final = 1024 * 1024
_PLACES: Final[Mapping[str, tuple[float, float]]] = {
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
}
"""How much of what is cut away across and down lies before the part that stays."""


def _resized(here: Here) -> object:
    """ComfyUI's node for pictures and masks; inputs of each ``resize_type`` have its name before theirs."""
    source = here.take("input", v.Shown, MaskFile)
    kind = here.text("resize_type", "scale dimensions")
    if kind not in _TYPES:
        here.refuse(f"the resize_type {kind!r}.", f"Choose one of: {', '.join(_TYPES)}.", input="resize_type")
    cuts = (kind in _CUTTING and here.text("resize_type.crop", "center") == "center") or kind == "scale to multiple"
    if isinstance(source, MaskFile):
        if cuts:
            here.refuse(
                "it cuts a mask.", "Set its crop to disabled, or cut the mask's file.", input="resize_type.crop"
            )
        here.became("the same mask, which is scaled with its picture")
        return source
    size = source.size
    wanted = None if size is None and kind not in ("scale dimensions", "match size") else _TYPES[kind](here, size)
    if cuts and wanted is not None:
        source = replace(source, file=in_the_middle(here, source, wanted))
    return sized(here, source, wanted)


def _dimensions(here: Here, size: v.Size | None) -> v.Size | None:
    return _filled(here.integer("resize_type.width", 512), here.integer("resize_type.height", 512), size)


def _filled(width: int, height: int, size: v.Size | None) -> v.Size | None:
    """The width and height that are asked for; a side of 0 keeps the proportions, and 0 x 0 the size."""
    if width and height:
        return width, height
    if size is None or not (width or height):
        return size
    if width:
        return width, max(1, round(size[1] * width / size[0]))
    return max(1, round(size[0] * height / size[1])), height


def _longer(here: Here, size: v.Size | None) -> v.Size:
    assert size is not None
    return _by(size, here.above_zero("resize_type.longer_size", 512) / max(size))


def _shorter(here: Here, size: v.Size | None) -> v.Size:
    assert size is not None
    return _by(size, here.above_zero("resize_type.shorter_size", 512) / min(size))


def _by_factor(here: Here, size: v.Size | None) -> v.Size:
    assert size is not None
    return _by(size, here.above_zero("resize_type.multiplier", 1.0))


def _by_pixels(here: Here, size: v.Size | None) -> v.Size:
    assert size is not None
    total = int(here.above_zero("resize_type.megapixels", 1.0) * _MEGAPIXEL)
    return _by(size, math.sqrt(total / (size[0] * size[1])))


def _to_multiple(here: Here, size: v.Size | None) -> v.Size:
    assert size is not None
    step = max(1, here.integer("resize_type.multiple", 8))
    width, height = (side // step * step for side in size)
    return (width, height) if width and height else size


def _by(size: v.Size, factor: float) -> v.Size:
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


_TYPES: Final[Mapping[str, Callable[[Here, v.Size | None], v.Size | None]]] = {
    "scale dimensions": _dimensions,
    "scale by multiplier": _by_factor,
    "scale longer dimension": _longer,
    "scale shorter dimension": _shorter,
    "scale width": lambda here, size: _filled(here.integer("resize_type.width", 512), 0, size),
    "scale height": lambda here, size: _filled(0, here.integer("resize_type.height", 512), size),
    "scale total pixels": _by_pixels,
    "match size": lambda here, size: here.take("resize_type.match", v.Shown).size,
    "scale to multiple": _to_multiple,
}
_CUTTING: Final = ("scale dimensions", "match size")


def _kj(here: Here) -> object:
    """KJNodes' node, with four outputs: the picture, its width and height, and a mask."""
    shown, mask = here.together(lambda: here.take("image", v.Shown), lambda: here.take("mask", MaskFile, default=None))
    how, place = here.text("keep_proportion", "stretch"), here.text("crop_position", "center")
    width, height = here.integer("width", 512), here.integer("height", 512)
    if how not in _KEEPING or place not in _PLACES:
        here.refuse(
            f"it adds a border ({how}).", "Set keep_proportion to resize, crop or stretch.", input="keep_proportion"
        )
    size = _kept(how, width, height, shown.size)
    step = here.integer("divisible_by", 2)
    if size is not None and step > 1:
        size = (max(step, size[0] // step * step), max(step, size[1] // step * step))
    if how == "crop" and size is not None:
        shown = replace(shown, file=_placed(here, shown, size, place))
    shown = sized(here, shown, size)
    unknown = here.withheld("the size of its picture is not known.", "Give the pictures of the workflow.")
    if mask is None:
        mask = here.withheld("its mask marks nothing.", "Connect a mask to it, or take the mask's node out.")
    elif how == "crop":
        mask = here.withheld("it cuts a mask.", "Cut the mask's file, and load that with LoadImageMask.")
    return (shown, *(size or (unknown, unknown)), mask)


_KEEPING: Final = ("stretch", "resize", "crop", "total_pixels")


def _kept(how: str, width: int, height: int, size: v.Size | None) -> v.Size | None:
    if how == "resize" and width and height:
        return None if size is None else _by(size, min(width / size[0], height / size[1]))
    if how == "total_pixels":
        return None if size is None else _of_pixels(width * height, size)
    if how in ("stretch", "crop"):
        return (width, height) if width and height else None if size is None else (width or size[0], height or size[1])
    return _filled(width, height, size)


def _of_pixels(total: int, size: v.Size) -> v.Size:
    proportions = size[0] / size[1]
    return int(math.sqrt(total * proportions)), int(math.sqrt(total / proportions))


def _placed(here: Here, shown: v.Shown, size: v.Size, place: str) -> PictureFile:
    """The part of the file, in the proportions of ``size``, that lies at a place of it."""
    own = own_size(here, shown)
    proportions = size[0] / size[1]
    wide = own[0] / own[1] > proportions
    part = (round(own[1] * proportions), own[1]) if wide else (own[0], round(own[0] / proportions))
    across, down = _PLACES[place]
    left, top = int((own[0] - part[0]) * across), int((own[1] - part[1]) * down)
    return shown.file if part == own else replace(cropped(shown.file, own, (left, top, *part)), scaled=size)


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "ResizeImageMaskNode": _resized,
    "ImageResizeKJv2": _kj,
}

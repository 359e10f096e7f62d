"""Masks: 1 is where something is drawn, as here; of a file's alpha that is where it is transparent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, cast, get_args

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import Channel, MaskFile

_MOST_GROWN: Final = 256


def _load(here: Here) -> object:
    name, channel = here.text("image"), here.text("channel", "alpha")
    here.opacity(name)
    here.became(f"the mask {name}, {_where(channel)}")
    return MaskFile(name, _channel(here, channel))


def _of_picture(here: Here) -> object:
    source, channel = here.take("image", v.Shown, MaskFile), here.text("channel", "red")
    if isinstance(source, MaskFile):
        here.became("the same mask")
        return source
    if channel == "alpha":
        here.refuse(
            "a loaded picture has no alpha any more.", "Use the MASK of LoadImage, or LoadImageMask.", input="channel"
        )
    if source.file.crop is not None:
        here.refuse("the mask of a part of a picture.", "Crop the mask's file as well, and load that.", input="image")
    here.became(f"the mask {source.file.plain_name}, {_where(channel)}")
    return MaskFile(source.file.name, _channel(here, channel))


def _same(here: Here) -> object:
    mask = here.take("mask", MaskFile)
    here.became("the same mask")
    return mask


def _inverted(here: Here) -> object:
    mask = _of_channel(here)
    if mask.grown:
        here.refuse("it inverts a mask that was grown.", "Invert first, and grow the other way.", input="mask")
    here.became("the mask the other way round")
    return replace(mask, inverted=not mask.inverted)


def _growing(here: Here) -> object:
    mask, by = _of_channel(here), here.integer("expand", 0)
    tapered = here.flag("tapered_corners", True)
    if mask.grown and mask.tapered != tapered:
        here.refuse("it grows a mask twice, in two shapes.", "Grow it once.", input="mask")
    here.became(f"the mask, {abs(by)} pixels {'wider' if by > 0 else 'narrower'}" if by else "the same mask")
    return grown(here, mask, by, tapered=tapered, given="expand")


def grown(here: Here, mask: MaskFile, by: int, *, tapered: bool, given: str) -> MaskFile:
    """The mask ``by`` pixels wider; raises Refused where the input ``given`` asks for more than is done."""
    if abs(mask.grown + by) > _MOST_GROWN:
        here.refuse(f"it grows a mask by more than {_MOST_GROWN} pixels.", "Paint a larger mask.", input=given)
    return replace(mask, grown=mask.grown + by, tapered=tapered)


def _of_channel(here: Here) -> MaskFile:
    mask = here.take("mask", MaskFile)
    if mask.mode:
        here.refuse("it changes the mask of a Qied Picture.", "Load the mask with LoadImageMask.", input="mask")
    return mask


def _channel(here: Here, channel: str) -> Channel:
    if channel not in get_args(Channel):
        here.refuse(f"there is no channel {channel!r}.", "Choose alpha, red, green or blue.", input="channel")
    return cast("Channel", channel)


def _where(channel: str) -> str:
    return "where it is transparent" if channel == "alpha" else f"by its {channel}"


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "LoadImageMask": _load,
    "ImageToMask": _of_picture,
    "MaskToImage": _same,
    "InvertMask": _inverted,
    "GrowMask": _growing,
}

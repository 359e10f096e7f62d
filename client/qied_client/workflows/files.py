"""Pictures that a workflow names: what a node takes of a file, and how large that is.

A node knows a picture by the name of a file in ComfyUI's folders. What finds the file is the caller's: a folder, or a
store of uploads. What ComfyUI's loading and cropping nodes do with its pixels is done here, with Pillow, where the file
alone would not mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final, Literal

from qied_client.errors import PictureTooCostly, PictureUnreadable, SetupError
from qied_client.inputs import Picture, picture_bytes
from qied_client.installing import install_extra
from qied_client.picture_header import PictureLimits, read_header
from qied_client.picture_header.header import PictureHeader

Channel = Literal["alpha", "red", "green", "blue"]
FindPicture = Callable[[str], Picture]
"""Gives the picture for the name that a node has, such as ``cat.png``, ``clipspace/mask.png`` or ``out.png [output]``.

It raises an error of qied, of which InvalidRequest is the usual one, where there is none.
"""
_FOLDER: Final = re.compile(r"\s*\[(input|output|temp)\]$")
_MOST_GROWING: Final = 1_000_000_000
"""Most pixels of a mask times the pixels that it grows by: that many take up to half a minute of a processor."""
Crop = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the upright picture."""


@dataclass(frozen=True)
class PictureFile:
    """A picture as a node gives it on: the file, and the part of it that counts.

    Transparency is left out, but with ``transparent``, as ComfyUI's own nodes load pictures.
    ``scaled`` is the width and height in pixels that the part is brought to, where ComfyUI does that as well.
    """

    name: str
    crop: Crop | None = None
    scaled: tuple[int, int] | None = None
    transparent: bool = False

    @property
    def plain_name(self) -> str:
        """The name without the folder of ComfyUI's that it may end with."""
        return _FOLDER.sub("", self.name)


@dataclass(frozen=True)
class MaskFile:
    """A mask as a node gives it on: a channel of a file; ``alpha`` marks where the file is transparent.

    ``grown`` is by how many pixels of the file what it marks is wider, after ``inverted``; ``tapered`` leaves out the
    corners, step by step. ``mode`` is what of the file is marked where no channel says so, as ``mask_mode`` has it.
    """

    name: str
    channel: Channel
    inverted: bool = False
    grown: int = 0
    tapered: bool = True
    mode: str = ""


MakePicture = Callable[[bytes, PictureFile | MaskFile], bytes]
"""Makes of a file's bytes the PNG of what a node gives on; raises PictureError and its kinds."""


class Pictures:
    """The files of one workflow, each fetched once. Raises what ``find`` does, and errors of unreadable pictures."""

    def __init__(self, find: FindPicture, make: MakePicture | None = None) -> None:
        self._find = find
        self._make = make or made
        self._files: dict[str, Picture] = {}
        self._headers: dict[str, PictureHeader] = {}

    def header(self, name: str) -> PictureHeader:
        """What the first bytes of a file say."""
        if name not in self._headers:
            self._headers[name] = read_header(BytesIO(picture_bytes(self._file(name))), PictureLimits())
        return self._headers[name]

    def size(self, picture: PictureFile) -> tuple[int, int]:
        """Width and height in pixels of the part that counts, before it is scaled."""
        return self.header(picture.name).displayed_size if picture.crop is None else picture.crop[2:]

    def picture(self, picture: PictureFile) -> Picture:
        """The picture to upload: the file itself, or a PNG of what ComfyUI would have made of it."""
        whole = picture.crop is None and picture.scaled is None
        if whole and (picture.transparent or not self.header(picture.name).alpha):
            return self._file(picture.name)
        return self._made(picture, "without its transparency" if whole else "cropped and scaled")

    def mask(self, mask: MaskFile) -> tuple[Picture, str]:
        """The mask to upload, and what of it is edited, as ``mask_mode`` has it."""
        if mask.mode:
            return self._file(mask.name), mask.mode
        if mask.channel == "alpha" and not mask.grown:
            return self._file(mask.name), "opaque" if mask.inverted else "transparent"
        if mask == MaskFile(mask.name, "red") and not self.header(mask.name).alpha:
            return self._file(mask.name), "white"  # a mask is grey, so its brightness is its red
        width, height = self.header(mask.name).displayed_size
        if width * height * abs(mask.grown) > _MOST_GROWING:
            raise PictureTooCostly(
                f"{mask.name} has {width} x {height} pixels, too many to grow its mask by {abs(mask.grown)}.",
                "Grow it less, or paint the mask as it should be.",
            )
        return self._made(mask, f"as the mask of its channel {mask.channel}"), "white"

    def _file(self, name: str) -> Picture:
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def _made(self, what: PictureFile | MaskFile, how: str) -> bytes:
        if find_spec("PIL") is None:
            raise SetupError(
                f"Sending {what.name} {how} needs Pillow.", f"Install it: {install_extra('qied-client[pictures]')}"
            )
        return self._make(picture_bytes(self._file(what.name)), what)


def made(data: bytes, what: PictureFile | MaskFile) -> bytes:
    """A PNG of what a node gives on of a file, with Pillow; raises PictureError where that cannot be decoded."""
    from PIL import Image

    image = _opened(data)
    if isinstance(what, MaskFile):
        channel = image.convert("RGBA").getchannel(what.channel[0].upper())
        if what.inverted != (what.channel == "alpha"):
            channel = channel.point([255 - level for level in range(256)])
        return _as_png(_grown(channel, what.grown, what.tapered))
    image = image.convert("RGB")
    if what.crop is not None:
        left, top, width, height = what.crop
        image = image.crop((left, top, left + width, top + height))
    if what.scaled is not None and (what.crop is None or what.scaled[0] < image.width):
        image = image.resize(what.scaled, Image.Resampling.LANCZOS)
    return _as_png(image)


def _opened(data: bytes) -> Any:
    from PIL import Image, ImageOps

    from qied_client.pixels.plugins import is_decodable, load_plugin

    kind = read_header(BytesIO(data), PictureLimits()).format
    if is_decodable(kind):
        load_plugin(kind)
    try:
        with Image.open(BytesIO(data)) as image:
            return ImageOps.exif_transpose(image.convert("RGBA") if image.mode == "P" else image.copy())
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureUnreadable(f"The picture cannot be decoded: {error}.", "Save it again as PNG.") from error


def _as_png(image: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _grown(mask: Any, by: int, tapered: bool) -> Any:
    """A mask of 8 bits that marks ``by`` pixels more on each side, or less; GrowMask's shape, a pixel at a time."""
    from PIL import Image, ImageChops, ImageFilter

    further = ImageChops.lighter if by > 0 else ImageChops.darker
    if not tapered:
        kind = ImageFilter.MaxFilter if by > 0 else ImageFilter.MinFilter
        for _ in range(abs(by)):
            mask = mask.filter(kind(3))
        return mask
    for _ in range(abs(by)):
        wide = mask.resize((mask.width + 2, mask.height + 2), Image.Resampling.NEAREST)
        wide.paste(mask, (1, 1))
        for left, top in ((0, 1), (2, 1), (1, 0), (1, 2)):
            mask = further(mask, wide.crop((left, top, left + mask.width, top + mask.height)))
    return mask


def cropped(picture: PictureFile, size: tuple[int, int], crop: Crop) -> PictureFile:
    """A part of a picture of ``size``; ``crop`` counts within what ``picture`` already is."""
    left, top, width, height = crop
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    around = picture.crop or (0, 0, *size)
    part = (around[0] + left, around[1] + top, min(width, size[0] - left), min(height, size[1] - top))
    return replace(picture, crop=part, scaled=None)


def middle(size: tuple[int, int], width: int, height: int) -> Crop | None:
    """The middle of a picture in the proportions of ``width`` to ``height``, as ComfyUI's scaling nodes take it.

    None where that is all of it.
    """
    across, down = size
    own, wanted = across / down, width / height
    left = round((across - across * (wanted / own)) / 2) if own > wanted else 0
    top = round((down - down * (own / wanted)) / 2) if own < wanted else 0
    return (left, top, across - 2 * left, down - 2 * top) if left or top else None

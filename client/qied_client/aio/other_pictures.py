"""The pictures of an edit besides those that it edits: masks, and the canvas of its passes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from qied_client.aio.uploads import PictureUpload
from qied_client.inputs import Picture
from qied_client.options.redraws import with_masks
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest


@dataclass(frozen=True)
class OtherPictures:
    """A mask, a canvas, and the masks of passes in their order, as they were given."""

    mask: Picture | None = None
    canvas: Picture | None = None
    pass_masks: Sequence[Picture | None] = ()

    async def uploads(self) -> OtherUploads:
        """Read them; raises what ``PictureUpload`` raises."""
        mask, canvas = await _read(self.mask, "mask"), await _read(self.canvas, "canvas")
        return OtherUploads(mask, canvas, [await _read(each, "redraw") for each in self.pass_masks])


NO_OTHERS: Final = OtherPictures()


@dataclass(frozen=True)
class OtherUploads:
    """The same, ready to travel."""

    mask: PictureUpload | None
    canvas: PictureUpload | None
    pass_masks: Sequence[PictureUpload | None]

    @property
    def all(self) -> list[PictureUpload]:
        """Each that there is."""
        return [each for each in (self.mask, self.canvas, *self.pass_masks) if each is not None]

    @property
    def canvas_size(self) -> m.ImageSize | None:
        """The canvas's size, for its price."""
        return None if self.canvas is None else self.canvas.size

    def named_in(self, request: EditRequest) -> EditRequest:
        """The request with their hashes."""
        masks = [None if each is None else each.hash for each in self.pass_masks]
        return replace(
            request,
            mask=None if self.mask is None else self.mask.hash,
            canvas=None if self.canvas is None else self.canvas.hash,
            redraw=with_masks(request.redraw, masks) if masks else request.redraw,
        )


async def _read(picture: Picture | None, option: str) -> PictureUpload | None:
    return None if picture is None else await asyncio.to_thread(PictureUpload, picture, option)

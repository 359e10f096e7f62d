"""Qied Picture: a picture that the daemon keeps."""

from __future__ import annotations

import asyncio
import io as memory
from typing import Final

import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageChops
from qied_client import AsyncClient
from qied_client.errors import InvalidRequest, UnknownBlob
from qied_client.pixels.converted import converted
from qied_client.pixels.opacity import mask_meaning, split_alpha

from ..daemon.connections import Server
from ..daemon.running import ask
from ..pictures import image_of
from .inputs import CATEGORY, server_of
from .inputs import server as server_input

_HASH_CHARS: Final = 64


class QiedPicture(io.ComfyNode):
    """Fetches a picture of an edit from the daemon, by the hash that results name it by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedPicture",
            display_name="Qied Picture",
            category=CATEGORY,
            description="A picture or mask that went into an edit, which the daemon keeps for a while. Workflows in "
            "result files have this node; put Load Image in its place for a picture of your own.",
            inputs=[
                io.String.Input("picture", default="", tooltip="SHA-256 of the picture's file, 64 hexadecimal digits."),
                io.Combo.Input(
                    "mask_mode",
                    optional=True,
                    options=["auto", "white", "transparent", "opaque"],
                    default="auto",
                    tooltip="What the output 'mask' marks: the white part, the transparent or the opaque one; "
                    "auto goes by the file.",
                ),
                server_input(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture, upright and in sRGB."),
                io.Mask.Output(display_name="mask", tooltip="What the picture marks, if it is a mask."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, picture: str, mask_mode: str = "auto", server: Server | None = None) -> io.NodeOutput:
        blob = picture.strip().lower()
        if len(blob) != _HASH_CHARS or not set(blob) <= set("0123456789abcdef"):
            raise InvalidRequest(
                f"picture: {picture[:80]!r} is not a SHA-256 of 64 hexadecimal digits.",
                "Copy it from a result ('qied show --json FILE'), or use Load Image for a file.",
                field="picture",
            )
        data = await ask(server_of(server), lambda client: _fetch(client, blob))
        image, mask = await asyncio.to_thread(_decoded, data, mask_mode)
        return io.NodeOutput(image, mask, ui=ui.PreviewImage(image, cls=cls))


async def _fetch(client: AsyncClient, blob: str) -> bytes:
    try:
        return await client.download(blob)
    except UnknownBlob as error:
        raise UnknownBlob(
            f"The daemon has no picture {blob[:12]}… that is yours: it keeps pictures for a while only.",
            "Put Load Image with the picture's file in place of this node.",
            **error.details,
        ) from error


def _decoded(data: bytes, mask_mode: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture as an IMAGE, and what it marks as a MASK."""
    upright = converted(data, "PNG")
    with Image.open(memory.BytesIO(upright)) as opened:
        colour, alpha = split_alpha(opened)
    meaning = mask_meaning(colour, alpha)[0] if mask_mode == "auto" else mask_mode
    if meaning == "white":
        marked = colour.convert("L")
        if alpha is not None:
            marked = Image.composite(marked, Image.new("L", marked.size), alpha)
    else:
        opacity = alpha if alpha is not None else Image.new("L", colour.size, 255)
        marked = opacity if meaning == "opaque" else ImageChops.invert(opacity)
    file = memory.BytesIO()
    marked.convert("RGB").save(file, "PNG")
    return image_of([upright]), image_of([file.getvalue()])[..., 0]

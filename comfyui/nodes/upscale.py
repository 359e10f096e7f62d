"""Qied Upscale: pictures enlarged by an upscaling model of the daemon."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import torch
from comfy_api.latest import io
from qied_client import AsyncClient, OnProgress, Result
from qied_client.protocol.request import UPSCALING

from ..daemon.connections import Server
from ..daemon.running import Edit, run_edits
from ..texts import enlarging_text
from .batches import as_image, rows_of
from .inputs import CATEGORY, server_of
from .inputs import server as server_input


class QiedUpscale(io.ComfyNode):
    """Has the daemon enlarge pictures, and nothing else."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedUpscale",
            display_name="Qied Upscale",
            category=CATEGORY,
            description="Enlarges pictures by an upscaling model of the daemon, in tiles that fit its memory.",
            inputs=[
                io.Image.Input("image", tooltip="The pictures to enlarge."),
                io.String.Input(
                    "upscaler",
                    optional=True,
                    default="auto",
                    tooltip="An upscaling model of the daemon, a scale such as 2x, or auto: 4x or the nearest.",
                ),
                server_input(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enlarged pictures."),
                io.String.Output(display_name="info", tooltip="The size, the time, and warnings."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, image: torch.Tensor, upscaler: str = "auto", server: Server | None = None) -> io.NodeOutput:
        rows = await rows_of({"image": image})
        edits = [_upscaling(row["image"], upscaler.strip() or "auto") for row in rows]
        results = await run_edits(server_of(server), cls.hidden.unique_id, edits, enlarging_text)
        return io.NodeOutput(await as_image([each.bytes for each in results]), enlarging_text(results))


def _upscaling(picture: bytes, upscaler: str) -> Edit:
    def upscale(client: AsyncClient, on_progress: OnProgress) -> Coroutine[Any, Any, Result]:
        return client.edit(picture, UPSCALING, task="upscale", upscale=upscaler, on_progress=on_progress)

    return upscale

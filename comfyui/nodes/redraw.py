"""Qied Redraw: a region of a picture drawn again."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import torch
from comfy_api.latest import io
from qied_client import AsyncClient, OnProgress, Result

from ..daemon.connections import Server
from ..daemon.running import Edit, run_edits
from ..texts import info_text
from . import inputs
from .batches import Row, as_image, rows_of
from .inputs import Loras
from .region import AS_NEEDED, region, region_inputs

_REFERENCES = ("reference1", "reference2", "reference3")


class QiedRedraw(io.ComfyNode):
    """Has the daemon draw a region again; no pixel outside of it changes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedRedraw",
            display_name="Qied Redraw",
            category=inputs.CATEGORY,
            description="Draws a region of a picture again, in a crop of its own at full resolution: a face, a hand, a "
            "text. No pixel outside of it changes. Without box and mask, it draws the whole picture.",
            inputs=[
                io.Image.Input("image", tooltip="The picture whose region is drawn again."),
                *region_inputs(),
                inputs.prompt("What the region shows, or what is to change in it."),
                inputs.seed(),
                *inputs.settings(),
                io.Float.Input(
                    "refine",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Strength of a last pass over the whole picture. 0: none.",
                ),
                io.Image.Input(
                    "reference1",
                    optional=True,
                    tooltip="Picture 1 of the prompt; without any, the picture itself is. With the prompt of the edit "
                    "that made it, connect that edit's pictures.",
                ),
                io.Image.Input("reference2", optional=True, tooltip="Picture 2 of the prompt."),
                io.Image.Input("reference3", optional=True, tooltip="Picture 3 of the prompt."),
                inputs.LorasSocket.Input("loras", optional=True, tooltip="A chain of Qied LoRA."),
                inputs.server(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture with its region drawn again."),
                io.String.Output(display_name="info", tooltip="How it was made: precision, seed, steps, warnings."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, preset: str = "") -> bool | str:
        """Let presets through that are not in the list: the daemon knows them."""
        return True

    @classmethod
    async def execute(
        cls,
        image: torch.Tensor,
        prompt: str,
        seed: int = 0,
        x: int = 0,
        y: int = 0,
        width: int = 0,
        height: int = 0,
        strength: float = 0.5,
        padding: int = AS_NEEDED,
        feather: int = 8,
        scale: float = 0.0,
        refine: float = 0.0,
        mask: torch.Tensor | None = None,
        reference1: torch.Tensor | None = None,
        reference2: torch.Tensor | None = None,
        reference3: torch.Tensor | None = None,
        loras: Loras | None = None,
        server: Server | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        images = {"image": image, "reference1": reference1, "reference2": reference2, "reference3": reference3}
        rows = await rows_of(images, {"mask": mask})
        options = inputs.given_settings(values, loras)
        if refine:
            options["refine"] = refine
        edits = []
        for number, row in enumerate(rows):
            drawn = region((x, y, width, height), strength, padding, feather, scale, row.get("mask"))
            edits.append(_redraw(prompt, row, {**options, **drawn, "seed": inputs.next_seed(seed, number)}))
        results = await run_edits(inputs.server_of(server), cls.hidden.unique_id, edits)
        return io.NodeOutput(await as_image([each.bytes for each in results]), info_text(results))


def _redraw(prompt: str, row: Row, options: dict[str, Any]) -> Edit:
    references = [row[name] for name in _REFERENCES if name in row]

    def redraw(client: AsyncClient, on_progress: OnProgress) -> Coroutine[Any, Any, Result]:
        return client.redraw(row["image"], prompt, references=references or None, on_progress=on_progress, **options)

    return redraw

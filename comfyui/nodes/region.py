"""Qied Region: one region that is drawn again, in a chain."""

from __future__ import annotations

from typing import Final

import torch
from comfy_api.latest import io
from qied_client.options.redraws import RedrawOptions
from qied_client.protocol import limits

from .batches import rows_of
from .inputs import CATEGORY, RegionsSocket, advanced

Regions = tuple[RedrawOptions, ...]
"""The value of the type QIED_REGIONS: passes in their order, with masks as PNG files."""

WHOLE: Final = (0, 0, 0, 0)
AS_NEEDED: Final = -1
"""The padding that leaves it to the daemon, as ComfyUI has no number that is none."""


class QiedRegion(io.ComfyNode):
    """Adds a pass over a region to those before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedRegion",
            display_name="Qied Region",
            category=CATEGORY,
            description="A region of the picture that Qied Edit draws once more, in a crop of its own at full "
            "resolution. Several of these nodes make a chain. Without box and mask, it is the whole picture.",
            inputs=[
                *region_inputs(),
                io.Int.Input(
                    "steps",
                    optional=True,
                    default=0,
                    min=0,
                    max=limits.STEPS,
                    tooltip="Denoising steps of this pass. 0: those of the edit.",
                ),
                RegionsSocket.Input("regions", optional=True, tooltip="The regions before this one."),
            ],
            outputs=[RegionsSocket.Output(display_name="regions", tooltip="For the input 'redraw' of Qied Edit.")],
        )

    @classmethod
    async def execute(
        cls,
        x: int = 0,
        y: int = 0,
        width: int = 0,
        height: int = 0,
        strength: float = 0.5,
        padding: int = AS_NEEDED,
        feather: int = 8,
        scale: float = 0.0,
        steps: int = 0,
        mask: torch.Tensor | None = None,
        regions: Regions | None = None,
    ) -> io.NodeOutput:
        (row,) = (await rows_of({}, {"mask": mask}))[:1]
        each = region((x, y, width, height), strength, padding, feather, scale, row.get("mask"))
        if steps:
            each["steps"] = steps
        return io.NodeOutput((*(regions or ()), each))


def region_inputs() -> list[io.Input]:
    """Box, mask, strength and rim of a region."""
    side = {"default": 0, "min": 0, "max": limits.SIDE_PX, "optional": True}
    return [
        io.Mask.Input("mask", optional=True, tooltip="White where to draw; it may reach beyond the box."),
        io.Int.Input("x", tooltip="Left edge of the box, in pixels.", **side),
        io.Int.Input("y", tooltip="Upper edge of the box, in pixels.", **side),
        io.Int.Input("width", tooltip="Width of the box, in pixels. 0, as the height: no box.", **side),
        io.Int.Input("height", tooltip="Height of the box, in pixels. 0, as the width: no box.", **side),
        io.Float.Input(
            "strength",
            optional=True,
            default=0.5,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="How much is new: 1 is drawn from nothing, a small value keeps what is there.",
        ),
        advanced(
            io.Int.Input(
                "padding",
                optional=True,
                default=AS_NEEDED,
                min=AS_NEEDED,
                max=limits.SIDE_PX,
                tooltip="Pixels around the region that the model sees as well. -1: as many as it needs.",
            )
        ),
        advanced(
            io.Int.Input(
                "feather",
                optional=True,
                default=8,
                min=0,
                max=limits.FEATHER_PX,
                tooltip="Width in pixels of the rim inside the region over which it fades into the picture.",
            )
        ),
        advanced(
            io.Float.Input(
                "scale",
                optional=True,
                default=0.0,
                min=0.0,
                max=limits.CROP_SCALE,
                step=0.125,
                tooltip="Pixels that are drawn for each pixel of the picture along a side. 0: chosen by the daemon.",
            )
        ),
    ]


def region(
    box: tuple[int, int, int, int], strength: float, padding: int, feather: int, scale: float, mask: bytes | None
) -> RedrawOptions:
    """The options of a pass from the values of ``region_inputs``."""
    options = RedrawOptions(strength=strength, feather=feather)
    if padding != AS_NEEDED:
        options["padding"] = padding
    if box != WHOLE:
        options["box"] = box
    if scale:
        options["scale"] = scale
    if mask is not None:
        options["mask"], options["mask_mode"] = mask, "white"
    return options

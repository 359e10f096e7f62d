"""Qied Edit: an edit of one to three pictures, or a turn of a session."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, cast

import torch
from comfy_api.latest import io
from qied_client import AsyncClient, EditOptions, OnProgress, Result
from qied_client.errors import InvalidRequest
from qied_client.protocol import limits

from ..daemon.connections import Server
from ..daemon.running import Edit, run_edits
from ..texts import info_text
from . import inputs
from .batches import Row, as_image, rows_of
from .inputs import Loras
from .region import Regions
from .session import SessionTurn

_SIDE: Final = {"default": 0, "min": 0, "max": limits.SIDE_PX, "optional": True}
_IMAGES: Final = ("image1", "image2", "image3")
_CHOICES: Final = ("size", "background", "align", "on_cap", "rewrite_prompt", "preemptible")
_IF_GIVEN: Final = ("width", "height", "upscale", "precision", "compat")
"""Those where 0 and "" leave the choice to the daemon."""


class QiedEdit(io.ComfyNode):
    """Has the daemon edit pictures as a prompt says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedEdit",
            display_name="Qied Edit",
            category=inputs.CATEGORY,
            description="Edits one to three pictures as a prompt says, on a qied daemon. Each picture of a batch is an "
            "edit of its own. Without a picture, a model that makes pictures from text alone draws one.",
            inputs=[
                io.Image.Input("image1", optional=True, tooltip="The picture to edit: picture 1 of the prompt."),
                io.Image.Input("image2", optional=True, tooltip="Picture 2 of the prompt, such as what to take over."),
                io.Image.Input("image3", optional=True, tooltip="Picture 3 of the prompt."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where to edit. A mask of zeros, which Load Image gives where there is none, is ignored.",
                ),
                inputs.prompt("What to change, in words; picture 1, picture 2 and picture 3 name the pictures."),
                inputs.seed(),
                *inputs.settings(),
                io.Combo.Input(
                    "size",
                    optional=True,
                    options=["default", "same", "kontext"],
                    default="default",
                    tooltip="default: about a megapixel in the proportions of the last picture. "
                    "same: that picture's own size, to the pixel. kontext, which goes with 'compat': a size of "
                    "FluxKontextImageScale.",
                ),
                io.Int.Input("width", tooltip="Width in pixels, together with the height. 0: by 'size'.", **_SIDE),
                io.Int.Input("height", tooltip="Height in pixels, together with the width. 0: by 'size'.", **_SIDE),
                inputs.LorasSocket.Input("loras", optional=True, tooltip="A chain of Qied LoRA."),
                inputs.SessionSocket.Input(
                    "session",
                    optional=True,
                    tooltip="Edits the picture of a Qied Session, or of the Qied Edit before this one. "
                    "The pictures connected here come after it.",
                ),
                inputs.RegionsSocket.Input("redraw", optional=True, tooltip="A chain of Qied Region, drawn last."),
                io.Image.Input(
                    "canvas",
                    optional=True,
                    tooltip="Draw the regions of 'redraw' on this picture, and nothing else.",
                ),
                inputs.server(),
                inputs.advanced(
                    io.String.Input(
                        "upscale",
                        optional=True,
                        default="",
                        tooltip="Enlarge the result: 2x, 4x, auto, or an upscaling model of the daemon. Empty: do not.",
                    )
                ),
                inputs.advanced(
                    io.Combo.Input(
                        "background",
                        optional=True,
                        options=["auto", "transparent", "opaque"],
                        default="auto",
                        tooltip="auto and transparent: the result is transparent where picture 1 is and no mask marks. "
                        "opaque: all of it is visible.",
                    )
                ),
                inputs.advanced(
                    io.Boolean.Input(
                        "align",
                        optional=True,
                        default=True,
                        tooltip="Undo a small shift and zoom of the result against its picture.",
                    )
                ),
                inputs.advanced(
                    io.Combo.Input(
                        "on_cap",
                        optional=True,
                        options=["refuse", "fit"],
                        default="refuse",
                        tooltip="What happens to a result that is too large for the daemon's machine: "
                        "refuse the edit, or fit the result to it.",
                    )
                ),
                inputs.advanced(
                    io.Boolean.Input(
                        "rewrite_prompt",
                        optional=True,
                        default=False,
                        tooltip="Have the daemon's prompt rewriter, if it has one, improve the prompt.",
                    )
                ),
                inputs.advanced(
                    io.String.Input(
                        "precision",
                        optional=True,
                        default="",
                        tooltip="Refuse to edit unless the daemon runs this precision, such as fp8 or bf16.",
                    )
                ),
                inputs.advanced(
                    io.String.Input(
                        "compat",
                        optional=True,
                        default="",
                        tooltip="Edit as another program does. comfyui: pictures, noise, steps and guidance are those "
                        "of ComfyUI's own nodes; settings may follow, as in comfyui,shift=3.",
                    )
                ),
                inputs.advanced(
                    io.Boolean.Input(
                        "preemptible",
                        optional=True,
                        default=False,
                        tooltip="Give way to everybody's other edits: for long queues that can wait.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The result, or the batch of results."),
                io.String.Output(display_name="info", tooltip="How it was made: precision, seed, steps, warnings."),
                inputs.SessionSocket.Output(
                    display_name="session", tooltip="The session at this turn, for the next Qied Edit."
                ),
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
        prompt: str,
        seed: int = 0,
        image1: torch.Tensor | None = None,
        image2: torch.Tensor | None = None,
        image3: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        loras: Loras | None = None,
        session: SessionTurn | None = None,
        redraw: Regions | None = None,
        canvas: torch.Tensor | None = None,
        server: Server | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        images = {"image1": image1, "image2": image2, "image3": image3, "canvas": canvas}
        rows = await rows_of(images, {"mask": mask})
        options = _options(values, loras, redraw)
        if session is not None and len(rows) > 1:
            raise InvalidRequest(
                f"session: a turn makes one picture, and the batches have {len(rows)}.",
                "Take one with Image From Batch, or leave the session out.",
                field="session",
            )
        edits = [
            _edit(prompt, row, {**options, "seed": inputs.next_seed(seed, number)}, session)
            for number, row in enumerate(rows)
        ]
        on = inputs.server_of(server) if session is None else session.server
        results = await run_edits(on, cls.hidden.unique_id, edits)
        after = session if session is None else session.after(results[-1])
        return io.NodeOutput(await as_image([each.bytes for each in results]), info_text(results), after)


def _edit(prompt: str, row: Row, given: dict[str, Any], session: SessionTurn | None) -> Edit:
    """One edit as ``run_edits`` takes it: a turn of the session, where there is one."""
    pictures = [row[name] for name in _IMAGES if name in row]
    options = cast(EditOptions, {**given})
    if "mask" in row:
        options["mask"], options["mask_mode"] = row["mask"], "white"
    if "canvas" in row:
        options["canvas"] = row["canvas"]

    def edit(client: AsyncClient, on_progress: OnProgress) -> Coroutine[Any, Any, Result]:
        if session is not None:
            return session.edit(client, prompt, pictures, options, on_progress)
        if not pictures:
            return client.generate(prompt, on_progress=on_progress, **options)
        return client.edit(pictures, prompt, on_progress=on_progress, **options)

    return edit


def _options(values: dict[str, Any], loras: Loras | None, redraw: Regions | None) -> dict[str, Any]:
    """The options of every edit of the node; what is left at its default is left out."""
    options = inputs.given_settings(values, loras)
    options |= {name: values[name] for name in _CHOICES if name in values}
    options |= {name: values[name] for name in _IF_GIVEN if values.get(name)}
    if redraw:
        options["redraw"] = redraw
    return options

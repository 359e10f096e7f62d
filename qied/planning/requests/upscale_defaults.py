"""The defaults of a request that upscales: which model, and how large the result may be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from qied_client.errors import InvalidRequest
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest

from qied.edit import Background, EditSpec, OutputFormat
from qied.planning.edits.upscaling import chosen_upscaler
from qied.planning.requests.serving import Serving


def with_upscaling(spec: EditSpec, wanted: str, serving: Serving) -> EditSpec:
    """The edit with its result upscaled by the model that a request means; raises InvalidRequest."""
    name, facts = chosen_upscaler(wanted, serving.upscalers)
    upscaled = replace(spec, upscale=name, upscale_by=facts.scale)
    width, height = upscaled.size
    most = serving.max_result_pixels
    if max(width, height) > limits.SIDE_PX or width * height > most:
        raise InvalidRequest(
            f"upscale: the result would have {width} x {height} pixels; its sides may have {limits.SIDE_PX}, and all "
            f"of it {most} pixels.",
            "Ask for a smaller scale, or a smaller picture.",
            field="upscale",
        )
    return upscaled


def only_upscaled(request: EditRequest, sizes: Sequence[tuple[int, int]], serving: Serving) -> EditSpec:
    """What a request of the task ``upscale`` means. Raises InvalidRequest."""
    if len(sizes) != 1 or request.mask is not None:
        raise InvalidRequest(
            "images: one picture is upscaled at a time, and without a mask.", "Send one picture.", field="images"
        )
    for name, given in (("redraw", request.redraw), ("refine", request.refine)):
        if given:
            raise InvalidRequest(
                f"{name}: upscaling alone draws nothing.",
                f"Leave {name} out, or the task: an edit with 'upscale' enlarges what it drew.",
                field=name,
            )
    grid = serving.profile.geometry.side_multiple
    width, height = sizes[0]
    spec = EditSpec(
        images=request.images,
        prompt=request.prompt,
        negative_prompt=None,
        seed=request.seed,
        steps=1,
        true_cfg_scale=1.0,
        width=-(-width // grid) * grid,
        height=-(-height // grid) * grid,
        crop_width=width,
        crop_height=height,
        output_format=cast(OutputFormat, request.output_format),
        output_quality=request.output_quality,
        background=cast(Background, request.background),
        preview_every=0,
        only_upscales=True,
    )
    return with_upscaling(spec, request.upscale or "2x", serving)

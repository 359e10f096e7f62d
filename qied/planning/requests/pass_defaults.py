"""The defaults of the passes of a request: their regions, steps and precisions, where they leave them out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from qied_client.errors import InvalidRequest, PrecisionUnavailable
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, Redraw

from qied.edit import EditSpec, MaskMode, PassSpec
from qied.planning.edits.crops import clipped, crop_of
from qied.planning.edits.geometry import MAX_ASPECT, within_aspect
from qied.planning.edits.pictures import CANVAS_PIXELS
from qied.planning.profiles.model_profile import Geometry, ModelProfile
from qied.planning.requests.serving import Serving

Size = tuple[int, int]


def passes_of(request: EditRequest, spec: EditSpec, serving: Serving) -> tuple[PassSpec, ...]:
    """The passes over the result of ``spec``, or over its canvas, in their order; the refiner is the last.

    Raises InvalidRequest for a box off the picture, PrecisionUnavailable.
    """
    passes = [_pass(f"redraw[{number}]", each, spec, serving) for number, each in enumerate(request.redraw)]
    if request.refine:
        whole = Redraw(strength=request.refine, feather=0, padding=0)
        passes.append(_pass("refine", whole, spec, serving))
    return tuple(passes)


def _pass(name: str, each: Redraw, spec: EditSpec, serving: Serving) -> PassSpec:
    width, height = spec.drawn_size
    left, top, across, down = each.box or (0, 0, width, height)
    if left >= width or top >= height:
        raise InvalidRequest(
            f"{name}.box: it begins at {left}, {top}, off the picture of {width} x {height} pixels.",
            "Count its pixels from the picture's left and top edge.",
            field=f"{name}.box",
        )
    edges = clipped((left, top, left + across, top + down), spec.drawn_size)
    return PassSpec(
        strength=each.strength,
        left=edges[0],
        top=edges[1],
        width=edges[2] - edges[0],
        height=edges[3] - edges[1],
        padding=0 if each.padding is None else each.padding,
        context=serving.profile.geometry.crop_context if each.padding is None else 0.0,
        feather=each.feather,
        steps=spec.steps if each.steps is None else each.steps,
        max_pixels=serving.max_pixels,
        scale=each.scale or 0.0,
        mask=each.mask,
        mask_mode=cast(MaskMode, each.mask_mode),
        all_steps=spec.compat is not None,
        precision=_precision(name, each, serving),
    )


def _precision(name: str, each: Redraw, serving: Serving) -> str:
    """The precision that a pass names besides the daemon's own, "" for that; raises PrecisionUnavailable."""
    if each.precision in (None, "auto", serving.precision):
        return ""
    second = serving.second_precision
    if each.precision == second:
        return second
    held = f"{serving.precision} alone" if second is None else f"{serving.precision} and {second}"
    could = second is None and each.precision == "bf16" and serving.precision != "fp32"
    owner = "; its owner can set model.second_precision to bf16" if could else ""
    raise PrecisionUnavailable(
        f"{name}.precision: this daemon holds its model in {held}, not in {each.precision!r}.",
        f"Leave the precision out, or draw on the result at a daemon that runs {each.precision}{owner}.",
        field=f"{name}.precision",
    )


def reduced(spec: EditSpec, profile: ModelProfile) -> Iterator[str]:
    """That a region is too large to be drawn at the picture's own resolution."""
    for each in spec.passes:
        crop = crop_of(each, spec.drawn_size, profile)
        if each.mask is None and not each.scale and crop.content[0] < crop.size[0]:
            yield (
                f"A region of {crop.size[0]} x {crop.size[1]} pixels is drawn at {crop.content[0]} x "
                f"{crop.content[1]}, since this daemon draws at most {each.max_pixels} pixels at once. To keep "
                "details, choose smaller regions."
            )


def check_canvas(canvas: Size, serving: Serving) -> None:
    """Raise InvalidRequest for a canvas of a size that no result can have here."""
    width, height = canvas
    most = min(CANVAS_PIXELS, serving.max_result_pixels)
    if max(width, height) > limits.SIDE_PX or width * height > most:
        raise InvalidRequest(
            f"canvas: {width} x {height} pixels; a canvas has at most {limits.SIDE_PX} along a side and {most} in all.",
            "Crop it or scale it down first.",
            field="canvas",
        )
    if not within_aspect(width, height):
        raise InvalidRequest(
            f"canvas: a picture of {width} x {height} is more than {MAX_ASPECT} times as long as it is wide.",
            "Crop it first.",
            field="canvas",
        )


def on_grid(size: Size, geometry: Geometry) -> Size:
    """The smallest grid of the model that has room for a size."""
    grid = geometry.side_multiple
    return -(-size[0] // grid) * grid, -(-size[1] // grid) * grid

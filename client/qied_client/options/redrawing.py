"""A redraw as a request of its own: its options, turned into those of an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict, cast

from qied_client.inputs import Picture, Pictures, sequence
from qied_client.options.edit_options import EditOptions
from qied_client.options.loras import Loras
from qied_client.options.redraws import RedrawOptions

_OF_PASS: Final = ("box", "mask", "mask_mode", "strength", "padding", "feather", "scale", "precision")


class RedrawingOptions(TypedDict, total=False):
    """The options of ``Client.redraw``: those of its pass, and of an edit what concerns it."""

    box: Sequence[int] | None
    mask: Picture | None
    mask_mode: Literal["auto", "white", "transparent", "opaque"]
    strength: float
    padding: int | None
    feather: int
    scale: float | None
    precision: str | None
    negative_prompt: str | None
    seed: int | None
    steps: int | None
    true_cfg_scale: float | None
    preset: str | None
    loras: Loras | None
    refine: float | bool | None
    upscale: str
    output_format: Literal["png", "webp", "jpeg"]
    output_quality: int
    previews: bool
    priority: int


def redrawing(
    picture: Picture, prompt: str, references: Pictures | None, options: RedrawingOptions
) -> tuple[list[Picture], str, EditOptions]:
    """Pictures, prompt and options of the edit that a redraw is; without a region, all of the picture is drawn."""
    given = cast("dict[str, Any]", options)
    region = {name: given[name] for name in _OF_PASS if name in given}
    rest = {name: value for name, value in given.items() if name not in _OF_PASS}
    if region or not rest.get("refine"):
        rest["redraw"] = cast("RedrawOptions", region)
    pictures = [picture] if references is None else sequence(references)
    return pictures, prompt, cast("EditOptions", {**rest, "canvas": picture})

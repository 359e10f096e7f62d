"""What is done with a result: upscaling, and pasting it onto the picture that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import MaskFile
from qied_client.workflows.rules.loaders import stem


def _upscaled(here: Here) -> object:
    upscaler, source = here.together(
        lambda: here.take("upscale_model", v.Upscaler), lambda: here.take("image", v.Result, v.Shown)
    )
    if isinstance(source, v.Result):
        if source.upscaler is not None:
            here.refuse("it upscales twice.", "Take one upscaling out.", input="image")
        here.became(f"the result upscaled by {stem(upscaler.file)}")
        return replace(source, upscaler=upscaler)
    here.became(f"the picture upscaled by {stem(upscaler.file)}")
    return v.Result(source, upscaler)


def _pasted(here: Here) -> object:
    """A masked result on its own picture: the daemon's results are that already."""
    below, result, mask = here.together(
        lambda: here.take("destination", v.Shown),
        lambda: here.take("source", v.Result),
        lambda: here.take("mask", MaskFile, default=None),
    )
    edit = result.source
    where = here.integer("x", 0), here.integer("y", 0)
    own = isinstance(edit, v.Edit) and edit.latents.start is not None and edit.latents.start.file == below.file
    if not own or mask is None or mask != edit.latents.mask or where != (0, 0):
        here.refuse(
            "it pastes a result elsewhere than over its own picture, by its own mask.",
            "Take it out: a result with a mask (SetLatentNoiseMask) keeps the rest of its picture to the pixel.",
        )
    here.became("nothing: a masked result keeps the rest of its picture anyway")
    return result


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "ImageUpscaleWithModel": _upscaled,
    "ImageCompositeMasked": _pasted,
}

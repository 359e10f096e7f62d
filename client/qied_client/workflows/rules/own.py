"""The nodes of qied for ComfyUI: their inputs have the names of an edit's options, and 0 or "" chooses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from qied_client.options.edit_options import OPTIONS
from qied_client.picture_metadata import SHORT_HASH
from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import MaskFile, PictureFile

_PICTURES: Final = ("image1", "image2", "image3")
_REFERENCES: Final = ("reference1", "reference2", "reference3")
_LINKED: Final = frozenset({"mask", "loras", "canvas", "redraw"})
_OF_REGION: Final = ("strength", "padding", "feather", "scale", "steps")
_COUNT_FROM_ZERO: Final = frozenset({"seed", "priority", "padding", "feather"})
"""Of these 0 is a choice."""


def _server(here: Here) -> object:
    here.became("nothing: the daemon is the one that is asked")
    return None, ""


def _picture(here: Here) -> object:
    """A picture of the daemon's by its hash, and the mask that it is."""
    name, mode = f"{here.text('picture').strip().lower()}.png", here.text("mask_mode", "auto")
    file = PictureFile(name, transparent=True)
    here.became(f"the picture {name[:SHORT_HASH]}")
    return v.Shown(file, here.size(file)), MaskFile(name, "alpha", mode=mode)


def _lora(here: Here) -> object:
    before = here.take("loras", v.OwnLoras, default=v.OwnLoras(()))
    name, strength = here.text("name", ""), here.number("strength", 1.0)
    here.became(f"the LoRA {name} with strength {strength:g}" if name else "nothing: no LoRA is chosen")
    return v.OwnLoras((*before.chosen, (name, strength))) if name else before


def _region(here: Here) -> object:
    before = here.take("regions", v.OwnRegions, default=v.OwnRegions(()))
    here.became("a region that is drawn again")
    return v.OwnRegions((*before.regions, _one_region(here)))


def _one_region(here: Here) -> v.OwnRegion:
    mask = here.take("mask", MaskFile, default=None)
    box = here.integer("x", 0), here.integer("y", 0), here.integer("width", 0), here.integer("height", 0)
    options = {name: here.number(name) for name in _OF_REGION if _chosen(here, name)}
    return v.OwnRegion(tuple(options.items()), box if any(box) else None, mask)


def _edit(here: Here) -> object:
    if here.given("session"):
        here.refuse("it is a turn of a session.", "Run it in ComfyUI, or take the session out.", input="session")
    prompt, mask, canvas, regions, *pictures = here.together(
        lambda: here.text("prompt"),
        lambda: here.take("mask", MaskFile, default=None),
        lambda: here.take("canvas", v.Shown, default=None),
        lambda: here.take("redraw", v.OwnRegions, default=v.OwnRegions(())),
        *_connected(here, _PICTURES),
    )
    here.became("an edit" if pictures else "a picture from text alone")
    edit = v.OwnEdit(here.id, prompt, tuple(pictures), _options(here), mask, canvas, regions.regions)
    return v.Result(edit), "", None


def _redraw(here: Here) -> object:
    below, prompt, region, *pictures = here.together(
        lambda: here.take("image", v.Shown, v.Result),
        lambda: here.text("prompt"),
        lambda: _one_region(here),
        *_connected(here, _REFERENCES),
    )
    if isinstance(below, v.Result):
        here.refuse("it draws on the result of another node.", "Save that first, and draw on the file.", input="image")
    here.became("a region of a picture drawn again")
    options = tuple((name, value) for name, value in _options(here) if name not in ("width", "height", "steps"))
    if here.given("steps") and here.integer("steps"):
        options = (*options, ("steps", here.integer("steps")))
        region = replace(region, options=tuple((name, value) for name, value in region.options if name != "steps"))
    edit = v.OwnEdit(here.id, prompt, tuple(pictures) or (below,), options, None, below, (region,))
    return v.Result(edit), ""


def _upscale(here: Here) -> object:
    source = here.take("image", v.Result, v.Shown)
    name = here.text("upscaler", "auto").strip() or "auto"
    here.became(f"upscaled by {name}")
    upscaler = v.Upscaler(name, here.id)
    return (replace(source, upscaler=upscaler) if isinstance(source, v.Result) else v.Result(source, upscaler)), ""


def _session(here: Here) -> object:
    here.refuse("sessions have turns, and a workflow file is run once.", "Edit its picture without a session.")


def _connected(here: Here, names: tuple[str, ...]) -> list[Callable[[], object]]:
    def taking(name: str) -> Callable[[], object]:
        return lambda: here.take(name, v.Shown)

    return [taking(name) for name in names if here.given(name)]


def _options(here: Here) -> tuple[tuple[str, object], ...]:
    options: dict[str, Any] = {
        name: here.take(name) for name in (*OPTIONS, "compat") if name not in _LINKED and _chosen(here, name)
    }
    loras = here.take("loras", v.OwnLoras, default=v.OwnLoras(()))
    return (*options.items(), *((("loras", loras.chosen),) if loras.chosen else ()))


def _chosen(here: Here, name: str) -> bool:
    value = here.node.inputs.get(name)
    if isinstance(value, bool) or name in _COUNT_FROM_ZERO:
        return value is not None
    return value not in ("", 0, None)


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "QiedServer": _server,
    "QiedPicture": _picture,
    "QiedLora": _lora,
    "QiedRegion": _region,
    "QiedEdit": _edit,
    "QiedRedraw": _redraw,
    "QiedUpscale": _upscale,
    "QiedSession": _session,
}

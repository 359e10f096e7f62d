"""Nodes that hold or choose a value: numbers, text, switches."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, cast

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import PictureFile

_MOST_CHOICES: Final = 32


def _value_of(name: str) -> Callable[[Here], object]:
    """The rule of a node that gives on what its input ``name`` has."""

    def rule(here: Here) -> object:
        value = here.take(name)
        here.became(f"the value {repr(value)[:60]}" if isinstance(value, (str, int, float)) else "passed on")
        return value

    return rule


def _whole(here: Here) -> object:
    value = here.integer("value")
    here.became(f"the value {value}")
    return value


def _switch(here: Here) -> object:
    on = here.flag("switch", False)
    branch = "on_true" if on else "on_false"
    value = here.take(branch)
    here.became(f"its input {branch}; the other one is not looked at")
    return value


def _first_connected(here: Here) -> object:
    """The first of ``any_01``, ``any_02`` and so on that has anything, as rgthree's switch has it."""
    for number in range(1, _MOST_CHOICES):
        name = f"any_{number:02}"
        if here.given(name):
            here.became(f"its input {name}, the first that is connected")
            return here.take(name)
    here.refuse("nothing is connected to it.", "Connect one of its inputs.")


def _seed(here: Here) -> object:
    value = here.integer("seed")
    if value < 0:
        here.refuse("it draws another seed each time.", "Name one: --set seed=7.", input="seed")
    here.became(f"the seed {value}")
    return value


def _concatenated(here: Here) -> object:
    parts = here.together(lambda: here.text("string_a", ""), lambda: here.text("string_b", ""))
    text = here.text("delimiter", "").join(parts)
    here.became(f"the text {text[:60]!r}")
    return text


def _joined(here: Here) -> object:
    parts = here.together(lambda: here.text("string1", ""), lambda: here.text("string2", ""))
    text = here.text("delimiter", " ").join(parts)
    here.became(f"the text {text[:60]!r}")
    return text


def _chosen(number: str, branch: str) -> Callable[[Here], object]:
    """The rule of a switch whose input ``number`` says which of its inputs is taken, counted from 1."""

    def rule(here: Here) -> object:
        chosen = here.integer(number, 1)
        name = branch.format(chosen)
        value = here.take(name)
        here.became(f"its input {name}; the others are not looked at")
        return value, name, chosen

    return rule


def _resolution(here: Here) -> object:
    found = _PROPORTIONS.match(here.text("aspect_ratio", "1:1"))
    if found is None or not int(found[1]) or not int(found[2]):
        here.refuse("its aspect_ratio is not such as 3:2.", "Choose one of its list.", input="aspect_ratio")
    across, down = int(found[1]), int(found[2])
    step = max(1, here.integer("multiple", 8))
    scale = math.sqrt(here.above_zero("megapixels", 1.0) * 1024 * 1024 / (across * down))
    size = round(across * scale / step) * step, round(down * scale / step) * step
    if min(size) < here.integer("minimum", 0):
        here.refuse(f"its size of {size[0]} x {size[1]} pixels is below its minimum.", "Lower it.", input="minimum")
    here.became(f"{size[0]} and {size[1]} pixels")
    return size


_PROPORTIONS: Final = re.compile(r"(\d{1,4}):(\d{1,4})")


def _counted_size(here: Here) -> object:
    width, height, _ = cast("tuple[int, int, int]", _size(here))
    return here.take("image"), width, height, 1


def _size(here: Here) -> object:
    shown = here.take("image", v.Shown)
    size = shown.size or here.size(PictureFile(shown.file.name))
    if size is None:
        here.refuse("the size of its picture is not known.", "Give the pictures of the workflow.", input="image")
    here.became(f"{size[0]} and {size[1]} pixels")
    return (*size, 1)


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "PrimitiveInt": _whole,
    "PrimitiveFloat": _value_of("value"),
    "PrimitiveString": _value_of("value"),
    "PrimitiveStringMultiline": _value_of("value"),
    "PrimitiveBoolean": _value_of("value"),
    "INTConstant": _value_of("value"),
    "FloatConstant": _value_of("value"),
    "StringConstant": _value_of("string"),
    "StringConstantMultiline": _value_of("string"),
    "PreviewAny": _value_of("source"),
    "ShowText|pysssss": _value_of("text"),
    "CR Text": _value_of("text"),
    "CR Prompt Text": _value_of("prompt"),
    "easy int": _value_of("value"),
    "easy float": _value_of("value"),
    "easy string": _value_of("value"),
    "easy boolean": _value_of("value"),
    "easy positive": _value_of("positive"),
    "easy negative": _value_of("negative"),
    "easy seed": _seed,
    "easy cleanGpuUsed": _value_of("anything"),
    "easy clearCacheAll": _value_of("anything"),
    "UnloadModel": _value_of("value"),
    "UnloadAllModels": _value_of("value"),
    "Seed (rgthree)": _seed,
    "ComfySwitchNode": _switch,
    "LazySwitchKJ": _switch,
    "Any Switch (rgthree)": _first_connected,
    "ImpactSwitch": _chosen("select", "input{}"),
    "CR Image Input Switch": _chosen("Input", "image{}"),
    "StringConcatenate": _concatenated,
    "JoinStrings": _joined,
    "ResolutionSelector": _resolution,
    "GetImageSize": _size,
    "GetImageSize+": _size,
    "GetImageSizeAndCount": _counted_size,
}

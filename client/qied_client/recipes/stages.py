"""The stages that a recipe may have: their keys, what each key takes, and the order in which stages come."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.protocol import limits
from qied_client.protocol.request import MASK_MODES

Check = Callable[[Any], str]
"""What a value must be, in words; empty where it is."""


def _whole(low: int, high: int) -> Check:
    return lambda value: (
        "" if type(value) is int and low <= value <= high else f"must be a whole number from {low} to {high}"
    )


def _real(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return "" if right else f"must be a number from {low:g} to {high:g}"

    return check


def _one_of(*known: str) -> Check:
    return lambda value: "" if value in known else f"must be one of {', '.join(known)}"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "must be a text"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _names(value: Any) -> str:
    right = isinstance(value, list) and value and all(each in ("png", "webp", "jpeg") for each in value)
    return "" if right and len(value) == len({*value}) else "must be a list of png, webp and jpeg, each once"


def _box(value: Any) -> str:
    right = isinstance(value, list) and len(value) == 4 and not any(map(_whole(0, limits.SIDE_PX), value))
    return "" if right else "must be a list of left, top, width and height in pixels"


def _loras(value: Any) -> str:
    right = isinstance(value, dict) and all(
        not isinstance(each, bool) and isinstance(each, (int, float)) for each in value.values()
    )
    right = right or (isinstance(value, list) and all(isinstance(each, str) for each in value))
    return "" if right else "must be a list of names, or a table of names and strengths"


_STEPS: Final = _whole(1, limits.STEPS)
_PART: Final = _real(0.0, 1.0)
STAGES: Final[Mapping[str, Mapping[str, Check]]] = {
    "mask": {"mode": _one_of(*MASK_MODES), "required": _flag},
    "edit": {
        "prompt": _text,
        "negative_prompt": _text,
        "preset": _text,
        "precision": _text,
        "steps": _STEPS,
        "true_cfg_scale": _real(1.0, limits.CFG_SCALE),
        "loras": _loras,
        "size": _text,
        "width": _whole(1, limits.SIDE_PX),
        "height": _whole(1, limits.SIDE_PX),
        "on_cap": _one_of("refuse", "fit"),
        "seed": _whole(0, limits.SEED),
        "compat": _text,
    },
    "redraw": {
        "box": _box,
        "mask": _flag,
        "strength": _real(0.01, 1.0),
        "steps": _STEPS,
        "scale": _real(0.125, limits.CROP_SCALE),
        "precision": _text,
        "padding": _whole(0, limits.SIDE_PX),
        "feather": _whole(0, limits.FEATHER_PX),
    },
    "refine": {"strength": _PART},
    "upscale": {"model": _text, "factor": _whole(1, 8)},
    "save": {"formats": _names, "quality": _whole(1, 100)},
}
"""Stages in the order in which a recipe has them, and what each key takes. Sides, boxes and paddings are pixels.

A daemon says in its description which ones it has.
"""


def check_stage(stage: Any, where: str) -> str:
    """Check one stage and return what it does; raises InvalidRequest that names the key and the nearest known one."""
    if not isinstance(stage, Mapping):
        raise InvalidRequest(f"{where}: it is not a table.", 'Write do = "edit" and its keys.', field="recipe")
    kind = str(stage.get("do", ""))
    if kind not in STAGES:
        said = f"there is no stage {kind!r}" if kind else "it does not say what it does"
        raise InvalidRequest(f"{where}: {said}.", nearest(kind, STAGES, "Stages"), field="recipe")
    for key, value in stage.items():
        if key == "do":
            continue
        check = STAGES[kind].get(key)
        if check is None:
            raise InvalidRequest(
                f"{where}: a stage {kind!r} has no {key!r}.", nearest(key, STAGES[kind], "Its keys"), field="recipe"
            )
        if wrong := check(value):
            raise InvalidRequest(f"{where}: {key} {wrong}, not {value!r}.", "Correct it.", field="recipe")
    return kind


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A remedy: the name that was probably meant, else all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"{what} are {', '.join(names)}."

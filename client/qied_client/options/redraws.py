"""Passes over regions as people write them down: a box, options by name, or text, alone or several of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Final, Literal, TypedDict, cast

from qied_client.errors import InvalidRequest
from qied_client.inputs import Picture
from qied_client.protocol import limits
from qied_client.protocol.request import REFINE_STRENGTH, Redraw

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class RedrawOptions(TypedDict, total=False):
    """The options of one pass; ``Redraw`` says what each means. ``mask`` is a picture as an edit takes it.

    A mask of True is that of the edit itself, which is read as there unless the pass has a ``mask_mode``.
    """

    box: Sequence[int] | None
    mask: Picture | bool | None
    mask_mode: Literal["auto", "white", "transparent", "opaque"]
    strength: float
    padding: int | None
    feather: int
    steps: int | None
    scale: float | None
    precision: str | None


Redraws = Sequence[int] | RedrawOptions | str | Sequence[Sequence[int] | RedrawOptions | str]
REDRAW_VALUES: Final = (
    "a box (left, top, width, height) in pixels; a dict of box, mask, mask_mode, strength, padding, feather, steps, "
    "scale and precision; text such as '100,80,300,200,strength=0.4'; or a list of these"
)
REDRAW_RANGES: Final = (
    f"a strength from 0.01 to 1, a scale from 0.125 to {limits.CROP_SCALE:g}, a padding up to {limits.SIDE_PX} and a "
    f"feather up to {limits.FEATHER_PX} pixels"
)
REFINE_VALUES: Final = f"a strength from 0 to 1, or True for {REFINE_STRENGTH:g}"
_NUMBERS: Final = frozenset({"padding", "feather", "steps"})
_REALS: Final = frozenset({"strength", "scale"})
_NAMES: Final = tuple(field.name for field in fields(Redraw))
_INTEGER: Final = re.compile(r"\s*-?\d{1,9}\s*", re.ASCII)


@dataclass(frozen=True)
class GivenRedraw:
    """A pass without its mask's hash, and that mask as it was given; with ``edits_mask`` it is the edit's own."""

    redraw: Redraw
    mask: Picture | None = None
    edits_mask: bool = False

    def in_mode(self, mode: str) -> Redraw:
        """The pass, whose mask marks as the edit's does in ``mode`` where it is that one."""
        own = not self.edits_mask or self.redraw.mask_mode != "auto"
        return self.redraw if own else replace(self.redraw, mask_mode=mode)

    def mask_of(self, edits: Picture | None, place: str) -> Picture | None:
        """The picture of its mask, where ``edits`` is that of the edit; raises InvalidRequest where that is missing."""
        if self.edits_mask and edits is None:
            raise InvalidRequest(
                f"{place}.mask: it is to be the mask of the edit, which has none.",
                "Give the edit a mask, or leave this one out.",
                field="redraw",
            )
        return edits if self.edits_mask else self.mask


def given_redraws(value: object) -> tuple[GivenRedraw, ...]:
    """Passes however they are given; see ``Redraws``. Raises InvalidRequest."""
    if value is None:
        return ()
    if _is_one(value):
        return (_given(value, "redraw"),)
    return tuple(_given(item, f"redraw[{number}]") for number, item in enumerate(redraw_list(value)))


def redraw_list(value: object) -> list[Any]:
    """One pass or several as a list, each as it was given; raises InvalidRequest for what is neither."""
    if _is_one(value):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise _not_one("redraw", value)
    return list(value)


def refine_strength(value: object) -> object:
    """The strength of a refiner: the usual one for True, 0 for none; other values are left to the request's checks."""
    if value is None or value is False:
        return 0.0
    if value is True:
        return REFINE_STRENGTH
    return float(value) if isinstance(value, Real) else value


def redraw_text(each: Redraw) -> str:
    """A pass as text that ``given_redraws`` takes, without what has its default."""
    words = [] if each.box is None else [str(edge) for edge in each.box]
    for field in fields(Redraw):
        value = getattr(each, field.name)
        if field.name != "box" and value != field.default:
            words.append(f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}")
    return ",".join(words)


def with_masks(redraws: Sequence[Redraw], masks: Sequence[str | None]) -> tuple[Redraw, ...]:
    """The passes with the hashes of their masks."""
    return tuple(replace(each, mask=mask) for each, mask in zip(redraws, masks, strict=True))


def _is_one(value: object) -> bool:
    return isinstance(value, (str, Mapping)) or _is_box(value)


def _is_box(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(isinstance(edge, Integral) for edge in value)


def _given(value: object, place: str) -> GivenRedraw:
    if isinstance(value, str):
        value = redraw_of_text(value, place)
    if _is_box(value):
        value = {"box": value}
    if not isinstance(value, Mapping):
        raise _not_one(place, value)
    unknown = next((name for name in value if name not in _NAMES), None)
    if unknown is not None:
        raise InvalidRequest(
            f"{place}: {unknown!r} is not an option of a pass.", f"There are: {', '.join(_NAMES)}.", field="redraw"
        )
    given: dict[str, Any] = {name: _plain(item) for name, item in value.items() if name != "mask"}
    if given.get("box") is not None:
        if not _is_box(given["box"]):
            raise InvalidRequest(
                f"{place}.box: {given['box']!r} is not a box.",
                "Give left, top, width and height in whole pixels.",
                field="redraw",
            )
        given["box"] = tuple(int(edge) for edge in given["box"])
    mask = value.get("mask")
    if isinstance(mask, bool):
        return GivenRedraw(Redraw(**given), None, mask)
    return GivenRedraw(Redraw(**given), cast("Picture | None", mask))


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own, which the checks ask for."""
    if isinstance(value, bool) or type(value) in (int, float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def redraw_of_text(text: str, place: str = "redraw") -> dict[str, Any]:
    """A pass of text such as '100,80,300,200,strength=0.4': a box first, if any, and then options with their values.

    ``place`` names it in errors. Raises InvalidRequest for a box or a number that is none; names are not checked.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    box = [word for word in words if "=" not in word]
    if words[: len(box)] != box or len(box) not in (0, 4) or not all(_INTEGER.fullmatch(word) for word in box):
        raise InvalidRequest(
            f"{place}: {text[:80]!r} does not begin with a box.",
            "Write LEFT,TOP,WIDTH,HEIGHT in pixels, and options after it: 100,80,300,200,strength=0.4.",
            field="redraw",
        )
    found: dict[str, Any] = {"box": tuple(map(int, box))} if box else {}
    for word in words[len(box) :]:
        name, _, value = word.partition("=")
        found[name.strip()] = _value(name.strip(), value.strip(), place)
    return found


def _value(name: str, text: str, place: str) -> object:
    if name not in _NUMBERS | _REALS:
        return text
    try:
        return int(text) if name in _NUMBERS else float(text)
    except ValueError:
        raise InvalidRequest(
            f"{place}.{name}: {text[:40]!r} is not a number.", f"Write {name}=NUMBER.", field="redraw"
        ) from None


def _not_one(place: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{place}: {str(value)[:60]!r} is not a pass.", f"Give {REDRAW_VALUES}.", field="redraw")

"""From a prompt and options, as a program gives them, to a request whose every field is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.options.compat import given_compat
from qied_client.options.edit_options import OPTIONS
from qied_client.options.loras import lora_choices, plain_number
from qied_client.options.redraws import REDRAW_RANGES, given_redraws, refine_strength
from qied_client.options.unknown import unknown_option
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest

_INTEGERS: Final = frozenset({"seed", "steps", "width", "height", "priority", "output_quality"})
_SIZE: Final = re.compile(r"(\d{1,6})[xX*](\d{1,6})", re.ASCII)
_READ_APART: Final = frozenset({"mask", "loras", "redraw", "refine", "canvas", "compat"})
_SHOWN: Final = 40
_PROMPT: Final = f"text of at most {limits.PROMPT_BYTES} bytes of UTF-8 that says what to change"


def edit_request(prompt: str, seed: int, options: Mapping[str, object]) -> EditRequest:
    """Build a checked request without its pictures, for which hashes are needed; ``seed`` where the options have none.

    Raises UnknownOption, and InvalidRequest that names the option, its value and what is allowed.
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown_option(name, OPTIONS)
    given = {name: _plain(name, value) for name, value in options.items() if name not in _READ_APART}
    if given.get("seed") is None:
        given["seed"] = seed
    given |= _sides(given)
    mode = str(given.get("mask_mode", "auto"))
    passes = tuple(each.in_mode(mode) for each in given_redraws(options.get("redraw")))
    refine: Any = refine_strength(options.get("refine"))
    loras = lora_choices(options.get("loras"))
    compat = given_compat(options.get("compat"))
    request = EditRequest((), prompt, loras=loras, redraw=passes, refine=refine, compat=compat, **given)
    try:
        return request.validated()
    except InvalidRequest as error:
        raise _with_what_is_allowed(error, request) from None


def _sides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height of a ``size`` such as "1024x768", as OpenAI's API has it; nothing for any other."""
    sides = _SIZE.fullmatch(given["size"].strip()) if isinstance(given.get("size"), str) else None
    if sides is None:
        return {}
    if given.get("width") is not None or given.get("height") is not None:
        raise InvalidRequest(
            "size: width or height is given too.", "Leave out size, or width and height.", field="size"
        )
    return {"size": "default", "width": int(sides[1]), "height": int(sides[2])}


def _plain(name: str, value: Any) -> Any:
    """Numbers of numpy as Python's own, which the checks ask for."""
    if isinstance(value, bool):
        return value
    if name in _INTEGERS and isinstance(value, Integral):
        return int(value)
    if name == "true_cfg_scale" and isinstance(value, Real):
        return plain_number(value)
    return value


def _with_what_is_allowed(error: InvalidRequest, request: EditRequest) -> InvalidRequest:
    path = str(error.details.get("field", ""))
    name = re.split(r"[.\[]", path)[0]
    if name == "prompt":
        return InvalidRequest(error.message, _give(_PROMPT), field=name)
    if error.message.startswith(("width and height", "size: 'same'", "size: 'kontext'")):
        return error
    if name == "size":
        return InvalidRequest(
            f"size: {str(request.size)[:_SHOWN]!r} is not a size.", _give(OPTIONS[name].values), field=name
        )
    if name == "redraw":
        return error if path == name else InvalidRequest(error.message, _give(REDRAW_RANGES), field=path)
    return InvalidRequest(error.message, _give(OPTIONS[name].values), field=path)


def _give(values: str) -> str:
    return f"Give {values}."

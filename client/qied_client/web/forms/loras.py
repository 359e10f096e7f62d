"""LoRAs as forms have them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from qied_client.web.errors import bad_request

_PART: Final = re.compile(r"loras?\[(?P<key>[^\[\]]*)\](?:\[(?P<member>\w+)\])?")
_MEMBERS: Final = ("name", "scale", "strength", "weight")


def is_part(name: str) -> bool:
    """Whether a field is a part of ``lora``, as the ``openai`` package takes what ``extra_body`` has apart."""
    return _PART.fullmatch(name) is not None


def joined(parts: Sequence[tuple[str, str]]) -> str:
    """The JSON that such parts were; raises ApiError where it cannot be seen what belongs together.

    A list of names comes as ``lora[]``, an object of strengths as ``lora[NAME]``, and a list of objects as
    ``lora[][name]`` and ``lora[][scale]``: all names, and then all strengths.
    """
    names: list[str] = []
    scales: list[float] = []
    strengths: dict[str, float] = {}
    for field, text in parts:
        found = _PART.fullmatch(field)
        assert found is not None, "is_part said so"
        key, member = found["key"], found["member"]
        if not key and member in (None, "name"):
            names.append(text)
        elif not key and member in _MEMBERS:
            scales.append(_number(text))
        elif key and member is None:
            strengths[key] = _number(text)
        else:
            raise bad_request(f"{field} is not a part of lora.", field, "unknown_parameter")
    if scales and len(scales) != len(names):
        raise bad_request(
            "lora: some names have a scale, and it cannot be seen which. Give each one a scale, or send lora as "
            "text that is JSON.",
            "lora",
        )
    entries = [{"name": name, "scale": scale} for name, scale in zip(names, scales or [1.0] * len(names), strict=True)]
    entries += [{"name": name, "scale": scale} for name, scale in strengths.items()]
    return json.dumps(entries)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise bad_request(f"lora: a scale must be a number, not {text[:40]!r}.", "lora") from None


def _strength(scale: float) -> float:
    try:
        return float(scale)
    except OverflowError:  # JSON has whole numbers of any length
        raise bad_request("lora: a scale is too large.", "lora") from None


def lora_choices(text: str) -> list[tuple[str, float]]:
    """LoRAs from a form: a name, or JSON: a name, a list of names or of {name, scale}, or a mapping to strengths."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, str):
        value = [value]
    elif isinstance(value, dict):
        value = [value] if "name" in value else [{"name": name, "scale": scale} for name, scale in value.items()]
    if not isinstance(value, list):
        raise bad_request("lora must be a name, or JSON with names and scales.", "lora")
    choices = []
    for item in value:
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise bad_request("lora: each needs a name.", "lora")
        scale = entry.get("scale", entry.get("strength", entry.get("weight", 1.0)))
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise bad_request(f"lora {entry['name']}: its scale must be a number.", "lora")
        choices.append((entry["name"], _strength(scale)))
    return choices

"""What an edit does as another program does it, as people write it down: its name, and settings there."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from qied_client.errors import InvalidRequest
from qied_client.protocol.request import COMPAT_PROGRAMS, Compat

COMPAT_VALUES: Final = (
    "'comfyui', and after commas what its nodes have: 'comfyui,shift=3,cfg_norm=none'; shift is 0.01 to 100 (3.1), "
    "cfg_norm post (CFGNorm as it is), pre (with pre_cfg) or none, cfg_norm_strength 0 to 100 (1)"
)
_NUMBERS: Final = frozenset({"shift", "cfg_norm_strength"})
_SETTINGS: Final = tuple(field.name for field in fields(Compat) if field.name != "program")


def given_compat(value: object) -> Compat | None:
    """The program and its settings, of text such as "comfyui,shift=3"; None for None and for empty text.

    Raises InvalidRequest. Values out of range are left to the request's checks.
    """
    if value is None or isinstance(value, Compat):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"compat: {str(value)[:40]!r} is not text.", f"Give {COMPAT_VALUES}.", field="compat")
    if not value.strip():
        return None
    program, *words = [word.strip() for word in value.split(",")]
    if program not in COMPAT_PROGRAMS:
        raise InvalidRequest(
            f"compat: no edit can be done as by {program[:40]!r}.", f"Give {COMPAT_VALUES}.", field="compat"
        )
    found: dict[str, str | float] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in _SETTINGS or name in found:
            problem = "is given twice" if name in found else "is not a setting"
            raise InvalidRequest(
                f"compat: {name[:40]!r} {problem}.", f"Settings are {', '.join(_SETTINGS)}.", field="compat"
            )
        found[name] = _number(name, text) if name in _NUMBERS else text
    return Compat(program, **found)  # type: ignore[arg-type]  # the request's checks tell what is of no use


def compat_text(compat: Compat | None) -> str:
    """It as text that ``given_compat`` takes, without settings that have their default; empty for None."""
    if compat is None:
        return ""
    words = [compat.program]
    for field in fields(Compat):
        value = getattr(compat, field.name)
        if field.name != "program" and value != field.default:
            words.append(f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}")
    return ",".join(words)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(
            f"compat: {name} must be a number, not {text[:40]!r}.", f"Write {name}=NUMBER.", field="compat"
        ) from None

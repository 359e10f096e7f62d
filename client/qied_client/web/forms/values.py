"""The values of a form's fields, which all come as text."""

from __future__ import annotations

from collections.abc import Mapping

from qied_client.protocol import limits
from qied_client.protocol.fields import Int, OneOf, Real
from qied_client.web.errors import bad_request
from qied_client.web.forms.fields import FIELDS


def size(text: str) -> dict[str, int | str]:
    """The options of a client for a size; raises ApiError for one that cannot be."""
    if text in ("auto", ""):
        return {}
    if text in ("same", "kontext"):
        return {"size": text}
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise bad_request(f"size must be auto, same or WIDTHxHEIGHT, not {text[:40]!r}.", "size", "invalid_size")
    sides = int(width[:6]), int(height[:6])
    if not all(1 <= side <= limits.SIDE_PX for side in sides):
        raise bad_request(f"size: width and height must be 1 to {limits.SIDE_PX} pixels.", "size", "invalid_size")
    return {"width": sides[0], "height": sides[1]}


def integer(texts: Mapping[str, str], name: str, default: int) -> int:
    """The integer of a field; raises ApiError for another text, or one out of bounds."""
    check = FIELDS[name].check
    assert isinstance(check, Int), f"{name} is a field of integers"
    text = texts.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text) if len(text) <= 20 else check.high + 1
    except ValueError:
        raise bad_request(f"{name} must be an integer, not {text[:40]!r}.", name) from None
    if not check.low <= value <= check.high:
        raise bad_request(f"{name} must be {check.low} to {check.high}, not {text[:40]}.", name)
    return value


def real(texts: Mapping[str, str], name: str) -> float:
    """The number of a field that was sent; raises ApiError for another text, or one out of bounds."""
    check = FIELDS[name].check
    assert isinstance(check, Real), f"{name} is a field of numbers"
    text = texts[name].strip()
    try:
        value = float(text)
    except ValueError:
        raise bad_request(f"{name} must be a number, not {text[:40]!r}.", name) from None
    if not check.low <= value <= check.high:
        raise bad_request(f"{name} must be {check.low:g} to {check.high:g}, not {text[:40]}.", name)
    return value


def flag(texts: Mapping[str, str], name: str) -> bool:
    """Whether a field says yes; raises ApiError for what is neither yes nor no."""
    text = texts.get(name, "false").strip().lower()
    if text not in ("true", "false", "1", "0", ""):
        raise bad_request(f"{name} must be true or false, not {text[:40]!r}.", name)
    return text in ("true", "1")


def one_of(texts: Mapping[str, str], name: str, default: str) -> str:
    """The word of a field; raises ApiError for one that is not known."""
    check = FIELDS[name].check
    assert isinstance(check, OneOf), f"{name} is a field of a few words"
    text = texts.get(name, "").strip() or default
    if text not in check.allowed:
        raise bad_request(f"{name} must be one of {', '.join(check.allowed)}, not {text[:40]!r}.", name)
    return text

"""LoRAs as people write them down: names, pairs, mappings, and lists of all these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.protocol.request import LoraChoice

Lora = str | tuple[str, float] | Mapping[str, float] | LoraChoice
"""A LoRA by its name, with its strength as a pair, or one or more of them as a mapping of names to strengths."""
Loras = Lora | Sequence[Lora]
LORA_VALUES: Final = (
    "a name, a pair (name, strength), a dict {name: strength}, or a list of these; strengths from -4 to 4"
)


def lora_choices(loras: object) -> tuple[LoraChoice, ...]:
    """LoRAs with their strengths, however they are given; see ``Loras``. Raises InvalidRequest."""
    if loras is None:
        return ()
    if isinstance(loras, (str, Mapping, LoraChoice)) or (isinstance(loras, tuple) and _is_pair(loras)):
        return _choices_of(loras, "loras")
    if not isinstance(loras, (list, tuple)):
        raise _not_loras("loras", loras)
    return tuple(choice for index, item in enumerate(loras) for choice in _choices_of(item, f"loras[{index}]"))


def _choices_of(item: object, place: str) -> tuple[LoraChoice, ...]:
    if isinstance(item, str):
        return (LoraChoice(item),)
    if isinstance(item, LoraChoice):
        return (item,)
    if isinstance(item, (list, tuple)) and _is_pair(item):
        return (LoraChoice(item[0], plain_number(item[1])),)
    if isinstance(item, Mapping):
        wrong = next((pair for pair in item.items() if not _is_pair(pair)), None)
        if wrong is not None:
            raise _not_loras(place, {wrong[0]: wrong[1]})
        return tuple(LoraChoice(name, plain_number(strength)) for name, strength in item.items())
    raise _not_loras(place, item)


def _is_pair(item: Sequence[object]) -> bool:
    return len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], Real) and not isinstance(item[1], bool)


def plain_number(value: Any) -> float:
    """A number of numpy as Python's own."""
    return value if type(value) is int else float(value)


def _not_loras(place: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{place}: {_shown(value)} is not a LoRA.", f"Give {LORA_VALUES}.", field="loras")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

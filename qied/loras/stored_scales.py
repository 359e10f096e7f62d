"""What a LoRA's matrices count where no tensor says it: the alphas in diffusers' and PEFT's configurations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qied.loras.refusals import unusable

_KEY: Final = "lora_adapter_metadata"
_BESIDE: Final = "adapter_config.json"
_MOST_BYTES: Final = 1 << 20
_PREFIX: Final = "transformer."
_PLAIN: Final = re.compile(r"\^?[\w.]+")
_LARGEST: Final = 1e6
"""Of an alpha: every known one is below a few thousand."""
_REMEDY: Final = "Save the LoRA again with its alphas as tensors, or leave it out."


@dataclass(frozen=True)
class StoredScales:
    """``alpha`` of all modules but those of ``patterns`` (ends of module names); None where nothing is said.

    With ``by_root``, PEFT's rank-stabilised LoRA, alpha is divided by the root of the rank.
    """

    alpha: float | None = None
    patterns: tuple[tuple[str, float], ...] = ()
    by_root: bool = False

    def scale(self, name: str, rank: int) -> float:
        """What the product of the matrices of a linear counts; without an alpha it counts as it is."""
        named = (alpha for pattern, alpha in self.patterns if name == pattern or name.endswith(f".{pattern}"))
        alpha = next(named, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def stored_scales(metadata: Mapping[str, str], file: str) -> StoredScales:
    """Read the adapter's configuration, if there is one; raises ModelUnsupported for one that cannot be followed."""
    text = metadata.get(_KEY)
    return StoredScales() if text is None else _scales(text, f"the text {_KEY} in its header", file)


def scales_beside(folder: Path, file: str) -> StoredScales:
    """Read what PEFT's own folders hold next to the weights, as these say nothing of their alphas.

    Raises ModelUnsupported where it is not there, or cannot be followed.
    """
    beside = folder / _BESIDE
    try:
        with beside.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError:
        raise unusable(
            file, f"its alphas are in PEFT's {_BESIDE}, which is not next to it", f"Put {_BESIDE} next to it."
        ) from None
    if len(content) > _MOST_BYTES:
        raise unusable(file, f"the {_BESIDE} next to it has more than {_MOST_BYTES} bytes", _REMEDY)
    return _scales(content.decode(errors="replace"), f"the {_BESIDE} next to it", file)


def _scales(text: str, where: str, file: str) -> StoredScales:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise unusable(file, f"{where} is not JSON", _REMEDY) from None
    if not isinstance(config, dict):
        raise unusable(file, f"{where} is not a JSON object", _REMEDY)
    config = {str(key).removeprefix(_PREFIX): value for key, value in config.items()}
    for name in ("use_dora", "lora_bias"):
        if config.get(name):
            raise unusable(file, f"it was made with {name}, which this version does not support", _REMEDY)
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise unusable(file, "alpha_pattern in its header is not a JSON object", _REMEDY)
    for pattern in patterns:
        if not _PLAIN.fullmatch(pattern):
            raise unusable(file, f"alpha_pattern {pattern[:80]!r} in its header is not the name of a module", _REMEDY)
    alpha = config.get("alpha" if config.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha")
    return StoredScales(
        None if alpha is None else _number(alpha, "lora_alpha", file),
        tuple((key.removeprefix("^"), _number(value, "alpha_pattern", file)) for key, value in patterns.items()),
        by_root=bool(config.get("use_rslora")),
    )


def _number(value: Any, what: str, file: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise unusable(file, f"{what} in its header is {str(value)[:40]!r}, but should be a number", _REMEDY)
    return float(value)

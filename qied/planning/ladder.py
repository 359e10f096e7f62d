"""The order in which a plan spends memory, as a ladder: each rung gives one thing more than the one below it. Pure.

First the caps rise to the model's native size, then eight sessions fit, then blocks stay on the card, then the caps and
sessions rise to the profile's limits, and last the text encoder stays. A plan stands on the highest rung that fits, so
more memory can never give less of anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qied.planning.hardware_profile import Choice
from qied.planning.model_profile import ModelProfile

FIRST_SESSIONS = 8
"""Sessions that come before resident blocks: a state is some 30 MB, a block 230 MB."""
_EIGHTHS_FROM = 4
"""The smallest cap worth serving is half the native side."""


@dataclass(frozen=True)
class Rung:
    """Caps in pixels, edits held at once, blocks that stay on the device, and how the text encoder is held."""

    max_pixels: int
    max_reference_pixels: int
    sessions: int
    resident: int
    text_encoder: Literal["resident", "streamed"] = "streamed"


def ladder(model: ModelProfile, choice: Choice, max_active: int) -> list[Rung]:
    """All rungs from the lowest, for a profile's choice; ``max_active`` of 0 leaves the session limit to it."""
    native = min(model.geometry.vae_pixels, choice.max_pixels)
    top = min(model.geometry.max_target_pixels, choice.max_pixels)
    limit = min(choice.session_limit, max_active or choice.session_limit)
    reference = min(model.geometry.vae_pixels, choice.max_reference_pixels)
    rungs = [Rung(cap, min(cap, reference), 1, 0) for cap in _caps(model.geometry.vae_pixels, native)]
    _climb(rungs, "sessions", range(2, min(FIRST_SESSIONS, limit) + 1))
    if choice.residency == "resident-first":
        _climb(rungs, "resident", range(1, model.architecture.layers + 1))
    _climb(rungs, "max_pixels", [cap for cap in _caps(model.geometry.vae_pixels, top) if cap > native])
    _climb(rungs, "sessions", range(FIRST_SESSIONS + 1, limit + 1))
    if choice.residency == "resident-first":
        rungs.append(replace(rungs[-1], text_encoder="resident"))
    return rungs


def _climb(rungs: list[Rung], name: str, values: Sequence[int]) -> None:
    for value in values:
        rungs.append(replace(rungs[-1], **{name: value}))  # type: ignore[arg-type]


def _caps(native: int, top: int) -> list[int]:
    """Areas of squares whose sides are eighths of the native side, up to ``top``, which is the last one."""
    caps = []
    eighths = _EIGHTHS_FROM
    while native * eighths * eighths // 64 < top:
        caps.append(native * eighths * eighths // 64)
        eighths += 1
    return [*caps, top]

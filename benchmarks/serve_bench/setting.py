"""Which edits are made: of the full-size model on a card, or of the built-in one, to show that everything works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Model = Literal["full-size", "builtin"]


@dataclass(frozen=True)
class Request:
    """One edit with one reference of the target's size; sides in pixels."""

    side: int
    steps: int
    cfg: float
    preset: str | None = None


@dataclass(frozen=True)
class Within:
    """An edit within a budget of the card; None is all of it."""

    budget_bytes: int | None
    request: Request


@dataclass(frozen=True)
class Setting:
    """What is measured. ``previews`` edits come after the first one, which is not counted."""

    model: Model
    precision: str
    within: dict[str, Within]
    preview: Request
    previews: int = 5


PREVIEW_PRESET = "four-steps"
"""A preset of a profile that this benchmark writes: Lightning's schedule for a transformer that is distilled to it."""
GB = 10**9
EIGHT, SIX = "8 GB", "6 GB"


def setting(model: Model, precision: str) -> Setting:
    """The setting of a run."""
    if model == "builtin":
        small = Request(64, 3, 2.0)
        nothing = {EIGHT: Within(None, small), SIX: Within(None, small)}
        return Setting(model, precision, nothing, Request(64, 4, 1.0), previews=2)
    return Setting(
        model,
        precision,
        {EIGHT: Within(8 * GB, Request(1024, 40, 4.0)), SIX: Within(6 * GB, Request(768, 40, 4.0))},
        Request(1024, 4, 1.0, PREVIEW_PRESET),
    )

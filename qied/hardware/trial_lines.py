"""What a self-test's child process writes, a JSON line each: its trials, which one runs, how it came out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from qied.hardware.snapshot import Trial


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ready(_Line):
    """torch is loaded and the device answers; ``trials`` come in this order."""

    kind: Literal["ready"] = "ready"
    trials: tuple[str, ...]


class Started(_Line):
    """A trial runs."""

    kind: Literal["started"] = "started"
    name: str


class FinishedTrial(_Line):
    """A trial is done. ``bytes_per_s`` is the answer of one that measures a transfer, ``facts`` that of another."""

    kind: Literal["finished"] = "finished"
    name: str
    trial: Trial
    bytes_per_s: int | None = Field(default=None, ge=0)
    facts: dict[str, str | int | float] = Field(default_factory=dict)


Line = Ready | Started | FinishedTrial
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


def parse_line(text: str | bytes) -> Line | None:
    """A line of the child; None for anything else that may be written there."""
    try:
        return _LINE.validate_json(text)
    except ValidationError:
        return None

"""Hardware profiles: what to choose on which card, as data, read from profiles/hardware/*.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp8", "fp8-storage", "bf16", "cpu"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(_Strict):
    """Which cards a profile is for: every given condition holds. ``device`` cpu is for machines without a card.

    Capabilities are inclusive; memory is GiB as NVML reports it, from ``memory_gib_from`` to below ``memory_gib_to``;
    ``names`` are regular expressions, found anywhere in the card's name, case ignored.
    """

    device: Literal["cuda", "cpu"] = "cuda"
    capability_from: tuple[int, int] | None = None
    capability_to: tuple[int, int] | None = None
    memory_gib_from: float | None = Field(None, ge=0)
    memory_gib_to: float | None = Field(None, gt=0)
    names: tuple[str, ...] = ()


class Choice(_Strict):
    """What to choose there. Sizes are pixels, memory bytes."""

    precision: tuple[Precision, ...] = Field(min_length=1, description="in order: the first that is proven and fits")
    compute: Literal["bf16", "fp32"] = Field("bf16", description="what fp8-storage computes in")
    reserve_bytes: int = Field(ge=0, description="memory of the card left to the desktop and other programs")
    max_pixels: int = Field(ge=65_536, description="cap of a result")
    max_reference_pixels: int = Field(ge=65_536, description="cap of each reference as the VAE sees it")
    min_tile_px: int = Field(256, ge=128, description="smallest side of a VAE tile")
    max_tile_px: int = Field(4096, ge=128, description="largest side of a VAE tile")
    session_limit: int = Field(ge=1, le=256, description="edits held at once")
    residency: Literal["resident-first", "streamed"] = Field(
        "resident-first", description="keep as many blocks as fit, or stream all of them"
    )


class HardwareProfile(_Strict):
    """One kind of card, and the reasons for its numbers in ``notes``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    notes: str = ""
    match: Match
    choose: Choice

"""The settings that a configuration or command line asks of planning, independent of the machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qied.config import Config, LoadedConfig

WishedPrecision = Literal["auto", "fp8", "int8", "fp8-storage", "bf16", "fp32"]
WishedTextPrecision = Literal["auto", "int8-storage", "fp8-storage", "stored"]
WishedSecond = Literal["off", "bf16"]
WishedAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Wishes:
    """Choices that a person may make instead of leaving them to the profile; 0, None and "auto" leave them.

    ``budget_bytes`` bounds the device memory of a worker, ``target_pixels`` and ``reference_pixels`` the caps,
    ``max_active`` the edits held at once. ``cache_bytes`` are kept for turns of sessions. ``fp8_attention`` is
    whether the attention may be in FP8, and "on" asks for it. ``text_encoder_precision`` is how the layers of the text
    encoder are kept. ``second_precision`` is what passes may name besides. ``origins`` tells for each name
    above where it was set.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    gpu: int | None = None
    precision: WishedPrecision = "auto"
    budget_bytes: int = 0
    target_pixels: int = 0
    reference_pixels: int = 0
    max_active: int = 0
    cache_bytes: int = 256 * 1024 * 1024
    fp8_attention: WishedAttention = "auto"
    text_encoder_precision: WishedTextPrecision = "auto"
    second_precision: WishedSecond = "off"
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, name: str, otherwise: str) -> str:
        """Where a value came from: where it was set, if it was, else ``otherwise``."""
        return self.origins.get(name, otherwise)


_KEYS = {
    "device": "model.device",
    "precision": "model.precision",
    "budget_bytes": "worker.budget_bytes",
    "target_pixels": "limits.target_pixels",
    "reference_pixels": "limits.reference_pixels",
    "max_active": "worker.max_active",
    "cache_bytes": "worker.cache_bytes",
    "fp8_attention": "worker.fp8_attention",
    "text_encoder_precision": "model.text_encoder_precision",
    "second_precision": "model.second_precision",
}


_LEFT = {"second_precision": "off"}
"""Values that leave a choice besides "auto" and 0."""


def wishes_of(loaded: LoadedConfig) -> Wishes:
    """The wishes of a configuration."""
    config: Config = loaded.config
    origins = {
        name: f"{loaded.sources[key]} ({key})"
        for name, key in _KEYS.items()
        if loaded.sources[key] != "default" and loaded.value(key) not in ("auto", 0, _LEFT.get(name))
    }
    return Wishes(
        device=config.model.device,
        precision=config.model.precision,
        budget_bytes=config.worker.budget_bytes,
        target_pixels=config.limits.target_pixels,
        reference_pixels=config.limits.reference_pixels,
        max_active=config.worker.max_active,
        cache_bytes=config.worker.cache_bytes,
        fp8_attention=config.worker.fp8_attention,
        text_encoder_precision=config.model.text_encoder_precision,
        second_precision=config.model.second_precision,
        origins=origins,
    )

"""The files that make up one whole model, in any layout: what a worker loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """Paths, as text, so that a launch order can carry them.

    ``origin`` is what people know the model by: its folder, or the file of its transformer. The first three are weight
    files, safetensors in any layout and precision that is recognised; those ending in ``_config`` are JSON files as
    diffusers and transformers write them; ``tokenizer`` is a folder with a vocabulary. ``lightning_steps`` are those
    that the transformer was distilled to, None for a plain one; with ``keeps_schedule`` it runs on the plain schedule.
    ``tiny_autoencoder`` is the file that previews are decoded with, "" for none; no edit fails by it.
    """

    origin: str
    transformer: tuple[str, ...]
    text_encoder: tuple[str, ...]
    vae: tuple[str, ...]
    transformer_config: str
    text_encoder_config: str
    vae_config: str
    scheduler_config: str
    processor_config: str
    tokenizer: str
    lightning_steps: int | None = None
    keeps_schedule: bool = False
    tiny_autoencoder: str = ""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """All weight files, those of the transformer first; one that holds several parts is there once."""
        return tuple(Path(file) for file in dict.fromkeys((*self.transformer, *self.text_encoder, *self.vae)))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Checkpoint:
        """Read back what ``dataclasses.asdict`` and JSON made of one."""
        lists = {name: tuple(fields[name]) for name in ("transformer", "text_encoder", "vae")}
        return cls(**{**fields, **lists})

"""The LoRAs of the rows: what they are called, and an edit that asks for one."""

from __future__ import annotations

from dataclasses import replace

from qied_client.protocol.request import LoraChoice

from qied.edit import EditSpec
from qied.loras.catalogue import Catalogue, file_of
from quality_bench.rows import Lora

LORA_NAMES: dict[Lora, str] = {"lightning": "builtin-lightning-4steps", "style": "builtin-outline"}


def problem(lora: Lora, catalogue: Catalogue) -> str | None:
    """Why a LoRA cannot be used."""
    name = LORA_NAMES[lora]
    if name in catalogue.files:
        return None
    return catalogue.facts[name].problem if name in catalogue.facts else f"there is no {file_of(name)}"


def with_lora(spec: EditSpec, lora: Lora) -> EditSpec:
    """The same edit with a LoRA, and with the noise schedule that goes with it."""
    schedule = "lightning" if lora == "lightning" else spec.schedule
    return replace(spec, loras=(LoraChoice(LORA_NAMES[lora]),), schedule=schedule)

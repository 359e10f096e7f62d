"""How an edit was made, as the text that A1111 keeps, from which other programs read their settings back.

It is text in lines: prompt, negative prompt, and one line of settings. Its readers (Forge, SD.Next, Civitai and
viewers) split that line at commas, so a value with a comma, a colon or a line end is in quotes as JSON has them; of a
name that comes twice they keep the last value. ComfyUI's graphs are in ``comfyui_graph``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from qied_client.picture_metadata import SHORT_HASH, PictureMetadata

_QUOTED: Final = frozenset(',:\n"')


def a1111_text(metadata: PictureMetadata) -> str:
    """The text that A1111 keeps as "parameters"; LoRAs stand in the prompt, where its readers look for them."""
    loras = "".join(f" <lora:{name}:{strength:g}>" for name, strength in metadata.loras)
    negative = [f"Negative prompt: {metadata.negative_prompt}"] if metadata.negative_prompt else []
    settings = ", ".join(f"{name}: {_value(value)}" for name, value in _settings(metadata))
    return "\n".join([metadata.prompt + loras, *negative, settings])


def _settings(metadata: PictureMetadata) -> Iterator[tuple[str, object]]:
    """What the line of settings has; hashes are shortened, as these tools do it for models."""
    yield "Steps", metadata.steps
    yield "Sampler", "Euler"
    yield "Schedule type", "Simple"
    yield "CFG scale", f"{metadata.true_cfg_scale:g}"
    yield "Seed", metadata.seed
    yield "Size", f"{metadata.width // metadata.upscale_by}x{metadata.height // metadata.upscale_by}"
    yield "Model", metadata.model
    for name, value in (
        ("Precision", metadata.precision),
        ("Preset", metadata.preset),
        ("Schedule", metadata.schedule),
        ("Compat", metadata.compat),
        ("Original prompt", metadata.original_prompt),
        ("Source hashes", ", ".join(blob[:SHORT_HASH] for blob in metadata.sources)),
        ("Mask hash", (metadata.mask or "")[:SHORT_HASH]),
        ("Redraw", "; ".join(metadata.redraw)),
        ("Drift", _drift(metadata)),
        ("Hires upscale", metadata.upscale and metadata.upscale_by),
        ("Hires upscaler", metadata.upscale),
    ):
        if value:
            yield name, value
    yield "Version", f"qied {metadata.version}"


def _drift(metadata: PictureMetadata) -> str:
    if not metadata.drift:
        return ""
    across, down, zoom = metadata.drift
    return f"{across:g} {down:g} px x{zoom:g}{' undone' if metadata.aligned else ''}"


def _value(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if _QUOTED & set(text) else text

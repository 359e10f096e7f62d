"""How an edit was made, written as text inside the resulting picture; ``qied_client.picture_metadata`` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from PIL import ExifTags, Image, PngImagePlugin
from qied_client.options.redraws import redraw_text
from qied_client.picture_metadata import EXIF_PREFIX, PNG_KEY, SHORT_HASH, PictureMetadata
from qied_client.protocol.messages import MeasuredDrift
from qied_client.protocol.request import Redraw

import qied
from qied.edit import EditSpec, PassSpec

_TEXT_KEY: Final = "parameters"
_UTF16: Final = b"UNICODE\0"
_SRGB_PERCEPTUAL: Final = b"\0"


def metadata_of(spec: EditSpec, model: str, drift: MeasuredDrift | None = None) -> PictureMetadata:
    """Describe the result of ``spec`` by the model called ``model``, in this version of qied."""
    return PictureMetadata(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        steps=spec.steps,
        true_cfg_scale=spec.true_cfg_scale,
        width=spec.size[0],
        height=spec.size[1],
        size=_size(spec),
        mask_mode=spec.mask_mode if spec.mask is not None and spec.mask_mode != "auto" else "",
        model=model,
        version=qied.__version__,
        loras=tuple((lora.name, lora.strength) for lora in spec.loras),
        precision=spec.precision,
        preset=spec.preset,
        schedule=spec.schedule,
        sources=spec.images,
        mask=spec.mask,
        warnings=spec.warnings,
        redraw=tuple(redraw_text(_redraw(each)) for each in spec.passes),
        canvas=spec.canvas,
        drift=() if drift is None else (drift.x, drift.y, drift.zoom),
        aligned=drift is not None and drift.undone,
    )


def _size(spec: EditSpec) -> str:
    """By which rule the result got its size, where its sides alone cannot be asked for again."""
    if not spec.crop_width or spec.canvas is not None:
        return ""
    return spec.sized


def _redraw(each: PassSpec) -> Redraw:
    return Redraw(
        strength=each.strength,
        box=(each.left, each.top, each.width, each.height),
        mask=each.mask,
        mask_mode=each.mask_mode,
        padding=each.padding,
        feather=each.feather,
        steps=each.steps,
        scale=each.scale or None,
    )


def as_text(metadata: PictureMetadata) -> str:
    """The lines that picture tools of artists show: the prompts, then all settings in one line."""
    negative = [f"Negative prompt: {metadata.negative_prompt}"] if metadata.negative_prompt else []
    return "\n".join([metadata.prompt, *negative, ", ".join(f"{name}: {value}" for name, value in _settings(metadata))])


def _settings(metadata: PictureMetadata) -> Iterator[tuple[str, object]]:
    """What the line of settings has; hashes are shortened, as these tools do it for models."""
    yield "Steps", metadata.steps
    yield "CFG scale", f"{metadata.true_cfg_scale:g}"
    yield "Seed", metadata.seed
    yield "Size", f"{metadata.width}x{metadata.height}"
    yield "Model", metadata.model
    for name, value in (
        ("Precision", metadata.precision),
        ("Preset", metadata.preset),
        ("Schedule type", metadata.schedule),
    ):
        if value:
            yield name, value
    for name, strength in metadata.loras:
        yield "LoRA", f"{name} ({strength:g})"
    for text in metadata.redraw:
        yield "Redraw", text.replace(",", " ")
    if metadata.drift:
        across, down, zoom = metadata.drift
        yield "Drift", f"{across:g} {down:g} px x{zoom:g}{' undone' if metadata.aligned else ''}"
    for blob in metadata.sources:
        yield "Source hash", blob[:SHORT_HASH]
    if metadata.mask is not None:
        yield "Mask hash", metadata.mask[:SHORT_HASH]
    yield "Version", f"qied {metadata.version}"


def as_json(metadata: PictureMetadata) -> str:
    """All fields as one line of ASCII, the same for equal metadata."""
    return json.dumps(asdict(metadata), sort_keys=True)


def png_chunks(metadata: PictureMetadata) -> PngImagePlugin.PngInfo:
    """The PNG text chunks "parameters" (readable) and "qied" (JSON), and the mark that colours are sRGB."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", _SRGB_PERCEPTUAL)
    chunks.add_itxt(_TEXT_KEY, _without_nul(as_text(metadata)).encode("utf-8", "replace"))
    chunks.add_itxt(PNG_KEY, as_json(metadata))
    return chunks


def exif_block(metadata: PictureMetadata) -> bytes:
    """An Exif block with the readable text as user comment and the JSON, marked "qied:", as image description."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = EXIF_PREFIX + as_json(metadata)
    comment = _without_nul(as_text(metadata)).encode("utf-16-be", "replace")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UTF16 + comment
    return exif.tobytes()


def _without_nul(text: str) -> str:
    """``text`` with NUL, which ends a PNG text for many readers, as a space."""
    return text.replace("\0", " ")

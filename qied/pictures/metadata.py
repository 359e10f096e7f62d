"""How an edit was made, written as text inside the resulting picture; ``qied_client.picture_metadata`` reads it."""

from __future__ import annotations

import json
from dataclasses import asdict

from qied_client.options.compat import compat_text
from qied_client.options.redraws import redraw_text
from qied_client.picture_file.comfyui_graph import forms_of
from qied_client.picture_file.contents import Contents
from qied_client.picture_file.dialects import a1111_text
from qied_client.picture_metadata import PictureMetadata
from qied_client.protocol.messages import MeasuredDrift
from qied_client.protocol.request import Redraw

import qied
from qied.edit import EditSpec, PassSpec


def metadata_of(
    spec: EditSpec, model: str, original_prompt: str = "", drift: MeasuredDrift | None = None
) -> PictureMetadata:
    """Describe the result of ``spec`` by the model called ``model``, in this version of qied.

    ``original_prompt`` is what the user wrote, where the spec's prompt was rewritten from it.
    """
    return PictureMetadata(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        steps=0 if spec.only_upscales else spec.steps,
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
        original_prompt=original_prompt,
        background="" if spec.background in ("auto", "none") else spec.background,
        redraw=tuple(redraw_text(_redraw(each)) for each in spec.passes),
        canvas=spec.canvas,
        drift=() if drift is None else (drift.x, drift.y, drift.zoom),
        aligned=drift is not None and drift.undone,
        upscale=spec.upscale,
        upscale_by=spec.upscale_by,
        compat=compat_text(spec.compat),
    )


def _size(spec: EditSpec) -> str:
    """By which rule the result got its size, where its sides alone cannot be asked for again."""
    if spec.sized == "kontext":
        return spec.sized
    if not spec.crop_width or spec.canvas is not None or spec.sized == "asked":
        return ""
    return spec.sized


def _redraw(each: PassSpec) -> Redraw:
    return Redraw(
        strength=each.strength,
        box=(each.left, each.top, each.width, each.height),
        mask=each.mask,
        mask_mode=each.mask_mode,
        padding=None if each.context else each.padding,
        feather=each.feather,
        steps=each.steps,
        scale=each.scale or None,
        precision=each.precision or None,
    )


def as_json(metadata: PictureMetadata) -> str:
    """All fields as one line of ASCII, the same for equal metadata."""
    return json.dumps(asdict(metadata), sort_keys=True)


def contents_for(metadata: PictureMetadata, xmp: bytes = b"") -> Contents:
    """All that a result's file holds besides its pixels: the metadata in each dialect, and a packet of marks."""
    prompt, workflow = forms_of(metadata)
    # What is only upscaled has no settings that A1111 knows.
    text = a1111_text(metadata) if metadata.steps else ""
    return Contents(as_json(metadata), text, prompt, workflow, xmp)

"""The request that makes a picture of qied's again, from what the picture says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, cast

from qied_client.inputs import Picture
from qied_client.options.redraws import RedrawOptions, given_redraws
from qied_client.picture_metadata import SHORT_HASH, PictureMetadata
from qied_client.protocol.request import UPSCALING, Redraw
from qied_client.workflows.evaluating import NodeNote
from qied_client.workflows.request import WorkflowRequest

FindByHash = Callable[[str], Picture]
"""Gives the picture whose file has a SHA-256 (hex), or raises an error of qied."""
RESULT: Final = "result"
"""Stands for the node that a picture without nodes has."""


def remade(metadata: PictureMetadata, find: FindByHash) -> WorkflowRequest:
    """The request for the same picture; raises what ``find`` does, and InvalidRequest where a pass cannot be read."""
    upscaled = bool(metadata.upscale) and not metadata.steps
    others: dict[str, Any] = {}
    if metadata.size in ("same", "kontext"):
        others["size"] = metadata.size
    if metadata.background:
        others["background"] = metadata.background
    if metadata.precision:
        others["precision"] = metadata.precision
    sized = not metadata.size and metadata.canvas is None and not upscaled
    drawn = (metadata.width // metadata.upscale_by, metadata.height // metadata.upscale_by)
    return WorkflowRequest(
        node_id=RESULT,
        class_type="QiedEdit",
        title="",
        filename_prefix="qied",
        prompt=UPSCALING if upscaled else metadata.prompt,
        images=tuple(find(blob) for blob in metadata.sources),
        names=tuple(_short(blob) for blob in metadata.sources),
        negative_prompt=metadata.negative_prompt,
        seed=metadata.seed,
        steps=metadata.steps or None,
        true_cfg_scale=metadata.true_cfg_scale if metadata.steps else None,
        width=drawn[0] if sized else None,
        height=drawn[1] if sized else None,
        preset=metadata.preset or None,
        loras=metadata.loras,
        mask=None if metadata.mask is None else find(metadata.mask),
        mask_name="" if metadata.mask is None else _short(metadata.mask),
        mask_mode=metadata.mask_mode or "auto",
        canvas=None if metadata.canvas is None else find(metadata.canvas),
        canvas_name="" if metadata.canvas is None else _short(metadata.canvas),
        redraw=tuple(_pass(text, find) for text in metadata.redraw),
        redraw_mask_names=tuple(_mask_name(text) for text in metadata.redraw),
        upscale=metadata.upscale,
        task="upscale" if upscaled else "edit",
        compat=metadata.compat,
        others=others,
        notes=(NodeNote(RESULT, "QiedEdit", "", f"the settings that the picture carries, of qied {metadata.version}"),),
    )


def _pass(text: str, find: FindByHash) -> RedrawOptions:
    (given,) = given_redraws(text)
    options = {
        field.name: getattr(given.redraw, field.name)
        for field in fields(Redraw)
        if field.name != "mask" and getattr(given.redraw, field.name) != field.default
    }
    if given.mask is not None:
        options["mask"] = find(str(given.mask))
    return cast("RedrawOptions", options)


def _mask_name(text: str) -> str:
    (given,) = given_redraws(text)
    return "" if given.mask is None else _short(str(given.mask))


def _short(blob: str) -> str:
    return f"{blob[:SHORT_HASH]}.png"

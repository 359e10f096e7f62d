"""Pictures and masks of one node, picture by picture of its batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import torch
from qied_client.errors import InvalidRequest

from ..pictures import image_of, masks_of, pictures_of

Row = dict[str, bytes]
"""The files of one edit by the input that they come from; an input that has nothing is left out."""


async def rows_of(
    images: Mapping[str, torch.Tensor | None], masks: Mapping[str, torch.Tensor | None] | None = None
) -> list[Row]:
    """The files of each edit: one for each picture of the batches, of which those with one picture serve all edits.

    At least one row, which may be empty. Raises InvalidRequest for batches of different lengths.
    """
    return await asyncio.to_thread(_rows_of, images, masks or {})


def _rows_of(images: Mapping[str, torch.Tensor | None], masks: Mapping[str, torch.Tensor | None]) -> list[Row]:
    files = {name: pictures_of(image, name) for name, image in images.items() if image is not None}
    for name, mask in masks.items():
        found = None if mask is None else masks_of(mask, name)
        if found is not None:
            files[name] = found
    several = {name: len(each) for name, each in files.items() if len(each) > 1}
    if len(set(several.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in several.items())
        raise InvalidRequest(f"The batches differ in length: {told} pictures.", "Give each as many, or one for all.")
    edits = next(iter(several.values()), 1)
    return [{name: each[number % len(each)] for name, each in files.items()} for number in range(edits)]


async def as_image(files: list[bytes]) -> torch.Tensor:
    """Results as one IMAGE, decoded in a thread: other nodes wait in this one."""
    return await asyncio.to_thread(image_of, files)

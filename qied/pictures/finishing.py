"""The last of a result before it is encoded: cut to its size, measured against its picture, and laid over it."""

from __future__ import annotations

from PIL import Image
from qied_client.protocol.messages import MeasuredDrift

from qied.edit import EditSpec
from qied.pictures.drift import SMALLEST, aligned, drift_of


def finished(
    image: Image.Image, spec: EditSpec, original: Image.Image | None
) -> tuple[Image.Image, MeasuredDrift | None]:
    """The result of an edit from what its engine gave, and how far it had drifted from ``original`` ("L").

    An upscaled result is compared at the size that it was drawn at; its drift is in its own pixels all the same. Only a
    small drift is undone, where the edit wants that. None where there is nothing to compare with, or too little
    of it is left.
    """
    if spec.crop_width and image.size != spec.size:
        image = image.crop((0, 0, *spec.size))
    if original is None:
        return image, None
    drift = drift_of(original, image if image.size == original.size else image.reduce(spec.upscale_by))
    if drift is None:
        return image, None
    drift = drift.enlarged(spec.upscale_by)
    undo = spec.align and drift.at_corner(spec.size) >= SMALLEST and drift.is_small(spec.size)
    told = MeasuredDrift(round(drift.x, 3), round(drift.y, 3), round(drift.zoom, 5), undo)
    return (aligned(image, drift) if undo else image), told

"""What goes around the engine from an edit's inputs to its result: opacity, marks, warnings, and the user's prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image as PictureModule
from PIL import ImageChops
from qied_client.picture_file.marks import COMPOSITE, ENHANCED, TRAINED, Marks, aigc_label, marks_of_edit, xmp_packet

from qied.config.output import Marking
from qied.edit import EditSpec
from qied.pictures.reduced import ReducedPicture

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Carried:
    """``inputs`` are the (SHA-256, marks) of the pictures; ``opacity`` is the result's, or None where it is opaque.

    ``original_prompt`` is what the user wrote, where the spec has another. ``original`` ("L") is what the result is
    compared with, at its size.
    """

    warnings: tuple[str, ...] = ()
    inputs: tuple[tuple[str, Marks], ...] = ()
    opacity: Image | None = None
    original_prompt: str = ""
    original: Image | None = None

    def marks(self, spec: EditSpec, marking: Marking, job: str) -> Marks:
        """The marks of the result: those of its inputs, and its own where marking is on."""
        source_type = self._source_type(spec) if marking.on else ""
        label = aigc_label(marking.aigc_producer, job) if marking.on and marking.aigc_producer else ""
        return marks_of_edit(self.inputs, source_type, label)

    def _source_type(self, spec: EditSpec) -> str:
        if spec.only_upscales:
            # Enlarging does not make a photograph a composite; what the picture says of itself stays.
            return next((marks.source_type for _, marks in self.inputs if marks.source_type), ENHANCED)
        return COMPOSITE if spec.images else TRAINED

    def onto(self, image: Image) -> Image:
        """The result with its opacity."""
        if self.opacity is None:
            return image
        both = image.convert("RGB")
        opacity = self.opacity
        if opacity.size != image.size:
            opacity = opacity.resize(image.size, PictureModule.Resampling.BICUBIC)
        both.putalpha(opacity)
        return both


NOTHING: Final = Carried()
TRANSPARENT: Final = (
    "The first picture is transparent in places, and so is the result there. "
    "To see all of the result, ask for the background 'opaque'."
)


def preview_marks(marking: Marking) -> bytes:
    """The XMP packet of pictures on the way to a result; empty where marking is off."""
    return xmp_packet(Marks(COMPOSITE)) if marking.on else b""


def kept_opacity(first: ReducedPicture, mask: Image | None) -> Image | None:
    """The result's opacity: that of the first picture, and opaque where the mask (255: edited) let something be made.

    None where all of it is opaque.
    """
    opacity = first.opacity
    if opacity is None:
        return None
    whole = opacity if mask is None else ImageChops.lighter(opacity, mask)
    return None if whole.getextrema()[0] == 255 else whole

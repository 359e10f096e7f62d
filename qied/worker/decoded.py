"""The decoded pictures of one edit, and what of them goes around the engine to its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qied.edit import EditSpec
from qied.pictures.mask import told
from qied.pictures.reduced import ReducedPicture
from qied.worker.carried import TRANSPARENT, Carried, kept_opacity

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Decoded:
    """Pictures by hash, what was guessed of masks, the edit's mask, and what its result is compared with ("L")."""

    pictures: dict[str, ReducedPicture] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    mask: Image | None = None
    original: Image | None = None

    def add(self, blob: str, picture: ReducedPicture) -> None:
        """Take a picture in; one file may be a picture and a mask, or several masks."""
        known = self.pictures.get(blob)
        self.pictures[blob] = picture if known is None else known.with_views(picture.views)
        self.warnings = tuple(dict.fromkeys((*self.warnings, *told(picture.guess))))

    def carried(self, spec: EditSpec, warnings: tuple[str, ...], original_prompt: str) -> Carried:
        """What the result gets besides its pixels; ``warnings`` came up before the pictures were decoded."""
        warnings = (*warnings, *self.warnings)
        opacity = None
        if spec.keeps_opacity:
            mask = None if self.mask is None else self.mask.crop((0, 0, *spec.drawn_size))
            opacity = kept_opacity(self.pictures[spec.inputs[0]], mask)
        if opacity is not None and spec.background == "auto" and not spec.only_upscales:
            warnings = (*warnings, TRANSPARENT)
        inputs = tuple((blob, self.pictures[blob].marks) for blob in dict.fromkeys(spec.inputs))
        return Carried(warnings, inputs, opacity, original_prompt, self.original)

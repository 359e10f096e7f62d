"""What an edit needs of each of its pictures, for its first pass and for those that follow. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qied.edit import EditSpec, PassSpec
from qied.planning.edits.comfyui import REFERENCE_MULTIPLE, area_size, centre_crop
from qied.planning.edits.crops import Crop, crop_of, lies_under
from qied.planning.edits.geometry import fitted_size, reference_size, rounded_up_area, vision_size
from qied.planning.edits.view import Box, View
from qied.planning.profiles.model_profile import ModelProfile

Size = tuple[int, int]
PictureView = tuple[str, View]
"""A picture's hash, and what is taken of it."""


@dataclass(frozen=True)
class Sight:
    """What a model of ``profile`` is shown of pictures; larger references are reduced to ``max_reference_pixels``."""

    profile: ModelProfile
    max_reference_pixels: int

    def of_first_pass(self, spec: EditSpec, sizes: Mapping[str, Size]) -> Seen:
        """The pictures of the pass from noise, which have ``sizes`` (width, height)."""
        if spec.compat is not None:
            return self._as_comfyui(spec, sizes, masked=spec.mask is not None)
        vision = [(blob, View(*vision_size(self.profile, *sizes[blob]))) for blob in spec.images]
        references = [
            (blob, self._reference(spec, sizes[blob], aligned=place == spec.aligned))
            for place, blob in enumerate(spec.images)
        ]
        source = (spec.images[0], source_view(spec, sizes[spec.images[0]])) if spec.mask is not None else None
        return Seen(vision, references, source)

    def of_pass(self, spec: EditSpec, each: PassSpec, sizes: Mapping[str, Size]) -> Seen:
        """The pictures of a pass over a region: the picture that the result lies over is cropped like the result."""
        crop = self.crop(spec, each)
        if spec.compat is not None and crop.size == crop.canvas:
            return self._as_comfyui(spec, sizes, masked=False)
        vision: list[PictureView] = []
        references: list[PictureView] = []
        for place, blob in enumerate(spec.images):
            size = sizes[blob]
            if place == spec.aligned and lies_under(size, spec.drawn_size):
                across, down = vision_size(self.profile, *crop.content)
                vision.append((blob, View(across, down, box=crop.box_on(size))))
                references.append((blob, crop.view(size, self._within_cap(crop.width, crop.height))))
            else:
                vision.append((blob, View(*vision_size(self.profile, *size))))
                references.append((blob, View(*reference_size(self.profile, *size, self.max_reference_pixels))))
        return Seen(vision, references, None)

    def crop(self, spec: EditSpec, each: PassSpec) -> Crop:
        """Where a pass is drawn."""
        return crop_of(each, spec.drawn_size, self.profile)

    def views(self, spec: EditSpec, blob: str, size: Size) -> tuple[View, ...]:
        """All that an edit needs of one of its pictures, which has ``size`` (width, height): no other pixel is kept."""
        if spec.only_upscales:
            found = [View(*spec.drawn_size)]
        else:
            sizes = {**dict.fromkeys(spec.images, size), blob: size}
            found = [view for seen in self._all(spec, sizes) for name, view in seen.all if name == blob]
        if blob == spec.canvas:
            found.append(canvas_view(spec, size))
        if spec.keeps_opacity and blob == spec.inputs[0]:
            found.append(View(*spec.drawn_size, "opacity", box=_cut_box(spec, size)))
        return tuple(dict.fromkeys(found))

    def _all(self, spec: EditSpec, sizes: Mapping[str, Size]) -> Iterator[Seen]:
        if spec.canvas is None:
            yield self.of_first_pass(spec, sizes)
        for each in spec.passes:
            yield self.of_pass(spec, each, sizes)

    def _reference(self, spec: EditSpec, size: Size, *, aligned: bool) -> View:
        """A reference's own size; the picture which the result lies over takes the same part of its grid as there."""
        if not (aligned and spec.crop_width and lies_under(size, spec.drawn_size)):
            return View(*reference_size(self.profile, *size, self.max_reference_pixels))
        # The model was trained on references of its own area, so they have that whatever the result's grid is.
        whole, grid = (
            source_view(spec, size),
            reference_size(self.profile, spec.width, spec.height, self.max_reference_pixels),
        )
        return whole if grid == whole.size else whole.on_grid(grid, (0.0, 0.0, float(size[0]), float(size[1])))

    def _as_comfyui(self, spec: EditSpec, sizes: Mapping[str, Size], *, masked: bool) -> Seen:
        """As TextEncodeQwenImageEditPlus prepares pictures; the first one may come out of FluxKontextImageScale."""
        area = min(self.profile.geometry.vae_pixels, self.max_reference_pixels)
        vision: list[PictureView] = []
        references: list[PictureView] = []
        for place, blob in enumerate(spec.images):
            scaled = spec.drawn_size if spec.sized == "kontext" and place == 0 else None
            box = _cut_box(spec, sizes[blob]) if scaled else None
            size = scaled or sizes[blob]
            for views, sides in (
                (vision, area_size(self.profile.geometry.vision_pixels, size)),
                (references, area_size(area, size, REFERENCE_MULTIPLE)),
            ):
                views.append((blob, View(*sides, "area", box=box, scaled=scaled)))
        source = (spec.images[0], source_view(spec, sizes[spec.images[0]])) if masked else None
        return Seen(vision, references, source)

    def _within_cap(self, width: int, height: int) -> Size:
        """A grid, or the nearest one that a reference may have."""
        area = min(self.profile.geometry.vae_pixels, self.max_reference_pixels)
        multiple = self.profile.geometry.reference_multiple
        if width * height <= rounded_up_area(area, multiple):
            return width, height
        return fitted_size(area, width, height, multiple)


@dataclass(frozen=True)
class Seen:
    """Pictures in order as the vision tower and the VAE get them, and what a mask keeps of the first one."""

    vision: list[PictureView]
    references: list[PictureView]
    source: PictureView | None

    @property
    def all(self) -> list[PictureView]:
        """Everything that is seen."""
        return [*self.vision, *self.references, *([self.source] if self.source else [])]


def source_view(spec: EditSpec, size: Size) -> View:
    """The picture that the result lies over, which has ``size``, on the result's grid."""
    if spec.sized == "kontext":
        return _cut_view(spec, size)
    width, height = spec.drawn_size
    return View(spec.width, spec.height, "lanczos", spec.width - width, spec.height - height)


def canvas_view(spec: EditSpec, size: Size) -> View:
    """The canvas, which has ``size``, as passes are drawn on it."""
    return _cut_view(spec, size) if spec.sized == "kontext" else View(*spec.drawn_size)


def _cut_view(spec: EditSpec, size: Size) -> View:
    """A picture as FluxKontextImageScale leaves it."""
    return View(*spec.drawn_size, box=_cut_box(spec, size), scaled=spec.drawn_size)


def _cut_box(spec: EditSpec, size: Size) -> Box | None:
    """What is kept of the picture that the result lies over; None for all of it."""
    if spec.sized != "kontext":
        return None
    left, top, right, bottom = centre_crop(size, spec.drawn_size)
    return float(left), float(top), float(right), float(bottom)


def mask_view(spec: EditSpec) -> View:
    """What an edit needs of its mask, which is stretched to the result."""
    width, height = spec.drawn_size
    return View(spec.width, spec.height, "box", spec.width - width, spec.height - height)


def pass_mask_view(spec: EditSpec) -> View:
    """What a pass needs of its mask, before it is known where that marks anything."""
    return View(*spec.drawn_size, "box")


def original_view(spec: EditSpec, size: Size) -> View | None:
    """What the result is compared with of the picture that it lies over, which has ``size``; None where it does not.

    A masked edit keeps what is outside the mask where it is, and passes over a canvas all that is outside of them;
    upscaling moves nothing. The view has the size of the result before it is upscaled.
    """
    if spec.only_upscales or spec.mask is not None or spec.canvas is not None:
        return None
    if spec.sized == "kontext":
        return _cut_view(spec, size)
    if not lies_under(size, spec.drawn_size):
        return None
    return View(*spec.drawn_size)

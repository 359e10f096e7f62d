"""One edit with every default resolved: the order that the front gives and the engine carries out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from qied_client.protocol import limits
from qied_client.protocol.fields import Flag, Hash, Int, Later, ListOf, Maybe, Nested, OneOf, Real, Text
from qied_client.protocol.request import BACKGROUNDS, MASK_MODES, SIZES, Compat, LoraChoice

OutputFormat = Literal["png", "webp", "jpeg"]
MaskMode = Literal["auto", "white", "transparent", "opaque"]
Background = Literal["auto", "transparent", "opaque", "none"]
Schedule = Literal["model", "lightning"]
Sized = Literal["default", "same", "kontext", "asked"]
MOST_CONTEXT: Final = 64.0
"""The most context of a pass: beyond that, any region's crop is the whole picture."""
_CUT = "..."
_PLACE = Int(0, limits.SIDE_PX)
_SIDE = Int(limits.SIDE_MULTIPLE, limits.SIDE_PX, multiple=limits.SIDE_MULTIPLE)


@dataclass(frozen=True)
class PassSpec:
    """A pass over a region of a picture, or over all of it, with every default resolved.

    The region is ``width`` x ``height`` pixels of the picture at ``left`` and ``top``, and within it the marked part of
    ``mask``, where there is one. It is drawn in a crop that has ``padding`` pixels more on each side, and ``context``
    times the region's longer side where that is more, as far as the model's own area has room for that; at ``scale``
    pixels for each of the picture's; 0 stands for the scale of ``planning.edits.crops``. ``feather`` pixels of its rim
    fade into the picture, inwards. ``steps`` are those of a whole schedule, of which the last ``strength`` is gone
    through; with ``all_steps`` they are those of that share alone, as the steps of ComfyUI's KSampler are.
    ``max_pixels`` bounds the crop as it is drawn. ``precision`` is one that the daemon holds besides its own, "" its
    own.
    """

    strength: Annotated[float, Real(0.0, 1.0)]
    left: Annotated[int, _PLACE]
    top: Annotated[int, _PLACE]
    width: Annotated[int, Int(1, limits.SIDE_PX)]
    height: Annotated[int, Int(1, limits.SIDE_PX)]
    padding: Annotated[int, Int(0, limits.SIDE_PX)]
    feather: Annotated[int, Int(0, limits.FEATHER_PX)]
    steps: Annotated[int, Int(1, limits.STEPS)]
    max_pixels: Annotated[int, Int(1, 2**63 - 1)]
    scale: Annotated[float, Later(Real(0.0, limits.CROP_SCALE))] = 0.0
    mask: Annotated[str | None, Later(Maybe(Hash()))] = None
    mask_mode: Annotated[MaskMode, Later(OneOf(MASK_MODES))] = "auto"
    all_steps: Annotated[bool, Later(Flag())] = False
    precision: Annotated[str, Later(Text(limits.SHORT_NAME_BYTES, empty=True))] = ""
    context: Annotated[float, Later(Real(0.0, MOST_CONTEXT))] = 0.0

    @property
    def first_step(self) -> int:
        """Steps of the schedule that are left out, as in diffusers' ``get_timesteps`` of its img2img pipelines."""
        return 0 if self.all_steps else int(max(self.steps - min(self.steps * self.strength, self.steps), 0))

    @property
    def own_steps(self) -> int:
        """Steps that the pass takes, at least one."""
        return max(1, self.steps - self.first_step)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the region."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def located(self, box: tuple[int, int, int, int]) -> PassSpec:
        """The same pass with the region that its mask was found to mark."""
        left, top, right, bottom = box
        return replace(self, left=left, top=top, width=right - left, height=bottom - top)


@dataclass(frozen=True, slots=True)
class EditSpec:
    """One edit, complete and immutable: the same spec and picture bytes give the same output bytes.

    ``images`` and ``mask`` are SHA-256 hashes (hex) of encoded picture files; ``width`` and ``height`` are pixels of
    the result, multiples of 16. ``true_cfg_scale`` above 1 means two forwards a step and needs ``negative_prompt``.
    ``preview_every`` counts steps between previews; 0 sends none. ``loras`` have names of the daemon's folders, each
    once, and strengths other than 0. ``schedule`` is the noise schedule: the model's own, or that of Lightning.
    ``output_quality`` is for JPEG and WebP; a WebP of 100 is lossless. ``mask_mode`` is what of the mask is edited.
    ``preset`` is the one that filled in defaults, ``precision`` the daemon's when it accepted the edit, and
    ``warnings`` are what the user probably did not intend; these three only describe the result. ``preset`` is
    empty where no preset was named and neither steps nor CFG scale came from one: the request gave both, or they
    are those that the model or a Lightning LoRA was distilled to. With the ``background`` ``auto`` or
    ``transparent`` the result is transparent where its picture is; ``none`` says that this picture is opaque
    everywhere. ``rewrite``: the prompt is rewritten before it is used. With
    ``crop_width`` and ``crop_height``, the picture that gives the result its size takes so much of ``width`` x
    ``height``; it is extended to that at the right and below by its last pixels, and the result is cut to it.
    ``sized`` tells where that comes from: the picture's proportions, its own size, or the size that was asked for.

    ``canvas`` is the hash of a picture that ``passes`` are drawn on, one after the other; without it they are drawn on
    the result of a first pass from noise. The result has the canvas's size then, as ``crop_width`` and ``crop_height``.
    With ``align``, a small shift and zoom of the result against the picture that gave it its size is undone.

    ``upscale`` names the model that makes the sides of the result ``upscale_by`` times as long at the end, when all
    passes are drawn; with ``only_upscales`` that is all that is done, to the one picture.

    With ``compat`` the edit is done as another program does it. ``sized`` ``kontext``: the picture that gives the
    result its size is scaled to ``width`` x ``height`` and cropped to their proportions before anything is made of it.
    """

    images: Annotated[tuple[str, ...], ListOf(Hash(), limits.IMAGES)]
    prompt: Annotated[str, Text(limits.PROMPT_BYTES)]
    negative_prompt: Annotated[str | None, Maybe(Text(limits.NEGATIVE_PROMPT_BYTES, empty=True))]
    seed: Annotated[int, Int(0, limits.SEED)]
    steps: Annotated[int, Int(1, limits.STEPS)]
    true_cfg_scale: Annotated[float, Real(1.0, limits.CFG_SCALE)]
    width: Annotated[int, _SIDE]
    height: Annotated[int, _SIDE]
    mask: Annotated[str | None, Maybe(Hash())] = None
    output_format: Annotated[OutputFormat, OneOf(("png", "webp", "jpeg"))] = "png"
    preview_every: Annotated[int, Int(0, limits.STEPS)] = 1
    loras: Annotated[tuple[LoraChoice, ...], ListOf(Nested(LoraChoice), limits.LORAS)] = ()
    schedule: Annotated[Schedule, OneOf(("model", "lightning"))] = "model"
    output_quality: Annotated[int, Later(Int(1, 100))] = 100
    mask_mode: Annotated[MaskMode, Later(OneOf(MASK_MODES))] = "auto"
    preset: Annotated[str, Later(Text(limits.SHORT_NAME_BYTES, empty=True))] = ""
    precision: Annotated[str, Later(Text(limits.SHORT_NAME_BYTES, empty=True))] = ""
    warnings: Annotated[tuple[str, ...], Later(ListOf(Text(limits.WARNING_BYTES), limits.WARNINGS))] = ()
    crop_width: Annotated[int, Later(Int(0, limits.SIDE_PX))] = 0
    crop_height: Annotated[int, Later(Int(0, limits.SIDE_PX))] = 0
    background: Annotated[Background, Later(OneOf((*BACKGROUNDS, "none")))] = "none"
    rewrite: Annotated[bool, Later(Flag())] = False
    sized: Annotated[Sized, Later(OneOf((*SIZES, "asked")))] = "default"
    canvas: Annotated[str | None, Later(Maybe(Hash()))] = None
    passes: Annotated[tuple[PassSpec, ...], Later(ListOf(Nested(PassSpec), limits.PASSES))] = ()
    align: Annotated[bool, Later(Flag())] = True
    upscale: Annotated[str, Later(Text(limits.NAME_CHARS, empty=True))] = ""
    upscale_by: Annotated[int, Later(Int(1, 8))] = 1
    only_upscales: Annotated[bool, Later(Flag())] = False
    compat: Annotated[Compat | None, Later(Maybe(Nested(Compat)))] = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result's file."""
        width, height = self.drawn_size
        return width * self.upscale_by, height * self.upscale_by

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Width and height of the result before it is upscaled."""
        return self.crop_width or self.width, self.crop_height or self.height

    @property
    def aligned(self) -> int:
        """Place of the picture that the result's pixels lie over: the one that a mask keeps, else the last.

        As ComfyUI has it, it is the first.
        """
        return 0 if self.mask is not None or self.compat is not None else len(self.images) - 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Hashes of the pictures that the result is made of: the one that it lies over first, where passes name it."""
        return self.images if self.canvas is None else (self.canvas, *self.images)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Hashes of all pictures that go in, masks too, each once."""
        masks = (self.mask, *(each.mask for each in self.passes))
        return tuple(dict.fromkeys(blob for blob in (*self.images, self.canvas, *masks) if blob is not None))

    @property
    def keeps_opacity(self) -> bool:
        """Whether the result may be transparent."""
        wanted = self.background in ("auto", "transparent")
        return bool(self.inputs) and wanted and self.output_format != "jpeg"

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on, so that each step costs two forwards."""
        return self.true_cfg_scale > 1.0 and self.negative_prompt is not None

    @property
    def first_steps(self) -> int:
        """Steps of the pass from noise; none where there is a canvas."""
        return 0 if self.canvas is not None else self.steps

    @property
    def most_steps(self) -> int:
        """Steps of the longest pass, each of which is counted from 1."""
        return max(self.first_steps, *(each.own_steps for each in self.passes), 1)

    @property
    def forwards(self) -> int:
        """Passes of the transformer that the whole edit takes."""
        steps = self.first_steps + sum(each.own_steps for each in self.passes)
        return steps * (2 if self.guided else 1)

    def with_warnings(self, warnings: Iterable[str]) -> EditSpec:
        """The same edit with more warnings, within their limits; one that it has already is not repeated."""
        return replace(self, warnings=warnings_within_limits((*self.warnings, *warnings)))


def warnings_within_limits(warnings: Iterable[str]) -> tuple[str, ...]:
    """The first warnings, each once, as many as a message takes; a long one loses its end."""
    return tuple(dict.fromkeys(map(_short, warnings)))[: limits.WARNINGS]


def _short(warning: str) -> str:
    """A warning that every message takes; names of files in it may be long, and not be valid Unicode."""
    data = warning.encode("utf-8", "replace")
    if len(data) <= limits.WARNING_BYTES:
        return data.decode()
    return data[: limits.WARNING_BYTES - len(_CUT)].decode("utf-8", "ignore") + _CUT

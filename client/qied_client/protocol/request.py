"""One edit as a client requests it, inside QUOTE and SUBMIT."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import msgpack

from qied_client.errors import InvalidRequest
from qied_client.protocol import limits
from qied_client.protocol.fields import (
    FieldError,
    Flag,
    Hash,
    Identifier,
    Int,
    Later,
    ListOf,
    Maybe,
    NameInFolder,
    Nested,
    OneOf,
    Real,
    Text,
    checked,
    write,
)

_SIDE = Int(1, limits.SIDE_PX)


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA by the name that it has in the daemon's folders: ``style``, or ``folder/style``."""

    name: Annotated[str, NameInFolder(limits.NAME_CHARS)]
    strength: Annotated[float, Real(-4.0, 4.0)] = 1.0


MASK_MODES: Final = ("auto", "white", "transparent", "opaque")
TASKS: Final = ("edit", "upscale")
UPSCALING: Final = "upscale"
"""The prompt of a request of the task ``upscale``, which has no use for one."""
AUTO_UPSCALER: Final = "auto"
"""The upscaler of a request that leaves the scale to the daemon."""
BACKGROUNDS: Final = ("auto", "transparent", "opaque")
SIZES: Final = ("default", "same", "kontext")
COMPAT_PROGRAMS: Final = ("comfyui",)
CFG_NORMS: Final = ("post", "pre", "none")


@dataclass(frozen=True)
class Compat:
    """Another ``program`` that an edit does as, with the settings that the nodes of a graph there have.

    With ``comfyui`` everything that goes into the model is computed as ComfyUI does it: the sizes of pictures, the way
    they are reduced, positions, noise, the sigmas of KSampler's scheduler "simple", guidance. ``shift`` is that of
    ModelSamplingAuraFlow. ``cfg_norm`` is CFGNorm: ``post`` as it is, ``pre`` with pre_cfg, ``none`` without the
    node; and ``cfg_norm_strength`` its strength.
    """

    program: Annotated[str, OneOf(COMPAT_PROGRAMS)] = "comfyui"
    shift: Annotated[float, Real(0.01, 100.0)] = 3.1
    cfg_norm: Annotated[str, OneOf(CFG_NORMS)] = "post"
    cfg_norm_strength: Annotated[float, Real(0.0, 100.0)] = 1.0


REFINE_STRENGTH: Final = 0.2
"""Strength of a refiner that is asked for without one."""


@dataclass(frozen=True)
class Redraw:
    """A pass that draws a region again, in a crop of its own and at the full resolution of the picture.

    The region is ``box``: left, top, width and height in pixels of the result, or of the ``canvas``; or what ``mask``
    marks, stretched to that picture; or the part of the mask in the box; or all of it, where there is neither. The crop
    has ``padding`` pixels more on each side, which the model sees and does not change; null for as many as the model
    needs by the region's size. No pixel outside the region changes; ``feather`` pixels inside its rim fade, at most a
    quarter of its shorter side.
    ``strength`` is that of diffusers' img2img: the share of the schedule's ``steps`` that the pass takes, from the
    picture noised to the first of them. ``scale`` is how many pixels of the pass there are along each of the picture's;
    null brings a small crop to the model's own size. ``precision`` is what the pass runs in: the daemon's own,
    for which null stands, or the second one that it holds.
    """

    strength: Annotated[float, Real(0.01, 1.0)] = 0.5
    box: Annotated[tuple[int, ...] | None, Maybe(ListOf(Int(0, limits.SIDE_PX), 4, 4))] = None
    mask: Annotated[str | None, Maybe(Hash())] = None
    mask_mode: Annotated[str, OneOf(MASK_MODES)] = "auto"
    padding: Annotated[int | None, Maybe(Int(0, limits.SIDE_PX))] = None
    feather: Annotated[int, Int(0, limits.FEATHER_PX)] = 8
    steps: Annotated[int | None, Maybe(Int(1, limits.STEPS))] = None
    scale: Annotated[float | None, Maybe(Real(0.125, limits.CROP_SCALE))] = None
    precision: Annotated[str | None, Maybe(Identifier(limits.NAME_CHARS))] = None


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One edit as the user asked for it; null means the daemon's choice (preset, then model profile).

    ``images`` are SHA-256 hashes of uploaded picture files, the last one giving the default aspect; none for a model
    that makes pictures from text alone;
    ``width`` and ``height`` are pixels of the result, given both or not at all: it is drawn on a grid of multiples of
    16 that has room for it, and cut to them. ``on_cap`` says what happens to a
    request above this machine's cap: ``refuse`` it with the nearest size, or ``fit`` it to that size.
    ``output_quality`` is for JPEG and WebP; a WebP of 100 is lossless. ``mask_mode`` says what of a mask is edited: its
    ``white`` part; its ``transparent`` one, as OpenAI and ComfyUI's editor mean it; its ``opaque`` one; or, with
    ``auto``, what the file seems to mean, of which the result's warnings tell. With the ``size`` ``same`` the
    result has the last picture's own size to the pixel, and its pixels lie where the picture's do. With ``compat``
    the edit is done as another program does it; the result's size is then, by default and with the ``size``
    ``kontext``, the one of ComfyUI's FluxKontextImageScale to which the first picture is scaled and cropped. With the
    ``background`` ``auto`` or ``transparent`` a PNG or WebP is transparent where the first picture is and no mask
    marks; ``opaque`` makes all of it visible. ``rewrite_prompt`` has the daemon's prompt rewriter, where it has
    one, make the prompt that is used. ``priority`` orders the waiting jobs of one user, the highest first; other
    users' shares do not depend on it. A ``preemptible`` job gives way to everybody's jobs that are not, and may
    start again for them. ``redraw`` are passes over regions of the result, in their order, and ``refine`` is the
    strength of a last pass over all of it; 0 is none. With ``canvas``, a picture, nothing else is drawn than these
    passes, on that picture. ``align`` says whether a small shift and zoom of the result against its picture is
    undone, or only measured. ``upscale`` names an upscaling model of the daemon, or its scale as ``2x``, or is
    ``auto`` for 4x or the nearest that it has: the result has so many times the width and height at the end. With
    the ``task`` ``upscale`` nothing else is done: the one picture is upscaled, and the prompt and all settings of
    an edit are not used.
    """

    images: Annotated[tuple[str, ...], ListOf(Hash(), limits.IMAGES)]
    prompt: Annotated[str, Text(limits.PROMPT_BYTES)]
    seed: Annotated[int, Int(0, limits.SEED)]
    negative_prompt: Annotated[str | None, Maybe(Text(limits.NEGATIVE_PROMPT_BYTES, empty=True))] = None
    steps: Annotated[int | None, Maybe(Int(1, limits.STEPS))] = None
    true_cfg_scale: Annotated[float | None, Maybe(Real(1.0, limits.CFG_SCALE))] = None
    width: Annotated[int | None, Maybe(_SIDE)] = None
    height: Annotated[int | None, Maybe(_SIDE)] = None
    preset: Annotated[str | None, Maybe(Identifier(limits.NAME_CHARS))] = None
    precision: Annotated[str | None, Maybe(Identifier(limits.NAME_CHARS))] = None
    loras: Annotated[tuple[LoraChoice, ...], ListOf(Nested(LoraChoice), limits.LORAS)] = ()
    mask: Annotated[str | None, Maybe(Hash())] = None
    on_cap: Annotated[str, OneOf(("refuse", "fit"))] = "refuse"
    output_format: Annotated[str, OneOf(("png", "webp", "jpeg"))] = "png"
    previews: Annotated[bool, Flag()] = True
    priority: Annotated[int, Later(Int(-limits.PRIORITY, limits.PRIORITY))] = 0
    output_quality: Annotated[int, Later(Int(1, 100))] = 100
    mask_mode: Annotated[str, Later(OneOf(MASK_MODES))] = "auto"
    size: Annotated[str, Later(OneOf(SIZES))] = "default"
    preemptible: Annotated[bool, Later(Flag())] = False
    background: Annotated[str, Later(OneOf(BACKGROUNDS))] = "auto"
    rewrite_prompt: Annotated[bool, Later(Flag())] = False
    redraw: Annotated[tuple[Redraw, ...], Later(ListOf(Nested(Redraw), limits.PASSES))] = ()
    refine: Annotated[float, Later(Real(0.0, 1.0))] = 0.0
    canvas: Annotated[str | None, Later(Maybe(Hash()))] = None
    align: Annotated[bool, Later(Flag())] = True
    upscale: Annotated[str, Later(Text(limits.NAME_CHARS, empty=True))] = ""
    task: Annotated[str, Later(OneOf(TASKS))] = "edit"
    compat: Annotated[Compat | None, Later(Maybe(Nested(Compat)))] = None

    @property
    def pictures(self) -> tuple[str, ...]:
        """Hashes of all pictures that the request names, masks too, each once."""
        masks = (self.mask, *(each.mask for each in self.redraw))
        return tuple(dict.fromkeys(blob for blob in (*self.images, self.canvas, *masks) if blob is not None))

    def validated(self) -> EditRequest:
        """Return the request with every field checked; raises InvalidRequest that names the field and the limit."""
        try:
            request = checked(self)
        except FieldError as error:
            raise InvalidRequest(f"{error}.", "Correct this field.", field=error.path) from None
        if (request.width is None) != (request.height is None):
            raise InvalidRequest("width and height: one is missing.", "Give both, or neither.", field="width")
        _check_size(request)
        if request.background == "transparent" and request.output_format == "jpeg":
            raise InvalidRequest(
                "background: a JPEG cannot be transparent.",
                "Choose PNG or WebP, or leave the background out.",
                field="background",
            )
        _check_passes(request)
        return request

    def payload_hash(self) -> str:
        """SHA-256 (hex) of the canonical form: tells a repeated SUBMIT from a different one with the same job id."""
        return hashlib.sha256(msgpack.packb(write(self))).hexdigest()


def _check_size(request: EditRequest) -> None:
    """Raise InvalidRequest where the size does not go with the sides, or with what is asked for otherwise."""
    if request.width is not None and request.size != "default":
        meaning = "the picture's own size" if request.size == "same" else "one of ComfyUI's sizes"
        raise InvalidRequest(
            f"size: {request.size!r} means {meaning}, but width and height are given too.",
            "Leave out width and height, or size.",
            field="size",
        )
    if request.size == "kontext" and request.compat is None:
        raise InvalidRequest(
            "size: 'kontext' is one of ComfyUI's sizes, and the edit is not done as ComfyUI does it.",
            "Give compat='comfyui' too, or leave size out.",
            field="size",
        )


def _check_passes(request: EditRequest) -> None:
    """Raise InvalidRequest where passes, canvas and the first pass do not go together."""
    if len(request.redraw) + (request.refine > 0) > limits.PASSES:
        raise InvalidRequest(
            f"redraw: {len(request.redraw)} passes and a refiner are more than {limits.PASSES}.",
            "Leave out refine, or one of redraw.",
            field="redraw",
        )
    for number, each in enumerate(request.redraw):
        if each.box is not None and not (each.box[2] and each.box[3]):
            raise InvalidRequest(
                f"redraw[{number}].box: {each.box[2]} x {each.box[3]} pixels are nothing to draw.",
                "Give left, top, width and height, the last two at least 1.",
                field=f"redraw[{number}].box",
            )
    if request.canvas is None:
        return
    if not request.redraw and not request.refine:
        raise InvalidRequest(
            "canvas: nothing is to be drawn on it.", "Give redraw or refine, or leave canvas out.", field="canvas"
        )
    first = {"mask": request.mask is not None, "width": request.width is not None, "size": request.size == "same"}
    if name := next((name for name, given in first.items() if given), None):
        raise InvalidRequest(
            f"{name}: this belongs to a first pass, and a canvas has none; the result has the canvas's own size.",
            "Give the mask in redraw." if name == "mask" else "Leave it out.",
            field=name,
        )

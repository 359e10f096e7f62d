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

_SIDE = Int(limits.SIDE_MULTIPLE, limits.SIDE_PX, multiple=limits.SIDE_MULTIPLE)


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA by the name that it has in the daemon's folders: ``style``, or ``folder/style``."""

    name: Annotated[str, NameInFolder(limits.NAME_CHARS)]
    strength: Annotated[float, Real(-4.0, 4.0)] = 1.0


MASK_MODES: Final = ("auto", "white", "transparent", "opaque")
TASKS: Final = ("edit", "upscale")
UPSCALING: Final = "upscale"
"""The prompt of a request of the task ``upscale``, which has no use for one."""
BACKGROUNDS: Final = ("auto", "transparent", "opaque")


@dataclass(frozen=True)
class EditRequest:
    """One edit as the user asked for it; null means the daemon's choice (preset, then model profile).

    ``images`` are one or more SHA-256 hashes of uploaded picture files, the last one giving the default aspect;
    ``width`` and ``height`` are pixels, multiples of 16, given both or not at all. ``on_cap`` says what happens to a
    request above this machine's cap: ``refuse`` it with the nearest size, or ``fit`` it to that size.
    ``output_quality`` is for JPEG and WebP; a WebP of 100 is lossless. ``mask_mode`` says what of a mask is edited: its
    ``white`` part; its ``transparent`` one, as OpenAI and ComfyUI's editor mean it; its ``opaque`` one; or, with
    ``auto``, what the file seems to mean, of which the result's warnings tell. With the ``size`` ``same`` the
    result has the last picture's own size to the pixel, and its pixels lie where the picture's do. With the
    ``background`` ``auto`` or ``transparent`` a PNG or WebP is transparent where the first picture is and no mask
    marks; ``opaque`` makes all of it visible. ``rewrite_prompt`` has the daemon's prompt rewriter, where it has one,
    make the prompt that is used. ``upscale`` names an upscaling model of the daemon, or its scale as ``2x``: the result
    has so many times the width and height. With the ``task`` ``upscale`` nothing else is done: the one picture is
    upscaled, and the prompt and all settings of an edit are not used. ``priority`` orders
    the waiting jobs of one user,
    the highest first; other users' shares do not depend on it.
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
    size: Annotated[str, Later(OneOf(("default", "same")))] = "default"
    background: Annotated[str, Later(OneOf(BACKGROUNDS))] = "auto"
    rewrite_prompt: Annotated[bool, Later(Flag())] = False
    upscale: Annotated[str, Later(Text(limits.NAME_CHARS, empty=True))] = ""
    task: Annotated[str, Later(OneOf(TASKS))] = "edit"

    def validated(self) -> EditRequest:
        """Return the request with every field checked; raises InvalidRequest that names the field and the limit."""
        try:
            request = checked(self)
        except FieldError as error:
            raise InvalidRequest(f"{error}.", "Correct this field.", field=error.path) from None
        if (request.width is None) != (request.height is None):
            raise InvalidRequest("width and height: one is missing.", "Give both, or neither.", field="width")
        if request.width is not None and request.size == "same":
            raise InvalidRequest(
                "size: 'same' means the picture's own size, but width and height are given too.",
                "Leave out width and height, or size.",
                field="size",
            )
        if request.background == "transparent" and request.output_format == "jpeg":
            raise InvalidRequest(
                "background: a JPEG cannot be transparent.",
                "Choose PNG or WebP, or leave the background out.",
                field="background",
            )
        return request

    def payload_hash(self) -> str:
        """SHA-256 (hex) of the canonical form: tells a repeated SUBMIT from a different one with the same job id."""
        return hashlib.sha256(msgpack.packb(write(self))).hexdigest()

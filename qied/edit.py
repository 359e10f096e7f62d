"""One edit with every default resolved: the order that the front gives and the engine carries out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from qied_client.protocol import limits
from qied_client.protocol.fields import Flag, Hash, Int, Later, ListOf, Maybe, Nested, OneOf, Real, Text
from qied_client.protocol.request import BACKGROUNDS, MASK_MODES, LoraChoice

OutputFormat = Literal["png", "webp", "jpeg"]
MaskMode = Literal["auto", "white", "transparent", "opaque"]
Background = Literal["auto", "transparent", "opaque", "none"]
Schedule = Literal["model", "lightning"]
_CUT = "..."
_SIDE = Int(limits.SIDE_MULTIPLE, limits.SIDE_PX, multiple=limits.SIDE_MULTIPLE)


@dataclass(frozen=True)
class EditSpec:
    """One edit, complete and immutable: the same spec and picture bytes give the same output bytes.

    ``images`` and ``mask`` are SHA-256 hashes (hex) of encoded picture files; ``width`` and ``height`` are pixels of
    the result, multiples of 16. ``true_cfg_scale`` above 1 means two forwards a step and needs ``negative_prompt``.
    ``preview_every`` counts steps between previews; 0 sends none. ``loras`` have names of the daemon's folders, each
    once, and strengths other than 0. ``schedule`` is the noise schedule: the model's own, or that of Lightning.
    ``output_quality`` is for JPEG and WebP; a WebP of 100 is lossless. ``mask_mode`` is what of the mask is edited.
    ``preset`` is the one that filled in defaults, ``precision`` the daemon's when it accepted the edit, and
    ``warnings`` are what the user probably did not intend; these three only describe the result. ``preset`` is empty
    where no preset was named and neither steps nor CFG scale came from one: the request gave both, or they are those
    that the model or a Lightning LoRA was distilled to. With ``crop_width`` and ``crop_height``, pictures of that size
    are extended at the right and below to ``width`` x ``height`` by their last pixels, and the result is cut to it.
    With the ``background`` ``auto`` or ``transparent`` the result is transparent where the first picture is; ``none``
    says that this picture is opaque everywhere. ``rewrite``: the prompt is rewritten before it is used. ``upscale``
    names the model that makes the sides of the result ``upscale_by`` times as long at the end; with ``only_upscales``
    that is all that is done, to the one picture.
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
    upscale: Annotated[str, Later(Text(limits.NAME_CHARS, empty=True))] = ""
    upscale_by: Annotated[int, Later(Int(1, 8))] = 1
    only_upscales: Annotated[bool, Later(Flag())] = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result's file."""
        width, height = self.drawn_size
        return width * self.upscale_by, height * self.upscale_by

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Width and height of the result before it is upscaled."""
        return self.crop_width or self.width, self.crop_height or self.height

    def padding(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows by which a picture of this size is extended."""
        if size != (self.crop_width, self.crop_height):
            return 0, 0
        return self.width - self.crop_width, self.height - self.crop_height

    @property
    def keeps_opacity(self) -> bool:
        """Whether the result may be transparent."""
        return self.background in ("auto", "transparent") and self.output_format != "jpeg"

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on, so that each step costs two forwards."""
        return self.true_cfg_scale > 1.0 and self.negative_prompt is not None

    @property
    def forwards(self) -> int:
        """Passes of the transformer that the whole edit takes."""
        return self.steps * (2 if self.guided else 1)

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

"""How large one edit is: its tokens and pixels, rounded up to what any pictures of its kind can need. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from qied.edit import EditSpec, PassSpec
from qied.planning.edits.comfyui import REFERENCE_MULTIPLE
from qied.planning.edits.crops import crop_of
from qied.planning.edits.geometry import rounded_up_area
from qied.planning.edits.loras import LoraFacts
from qied.planning.profiles.model_profile import ModelProfile

NO_FACTS: Final[Mapping[str, LoraFacts]] = MappingProxyType({})
_TOKEN_SIDE = 16
"""Pixels along a token: latent cells of 8 pixels, in patches of 2."""
_VISION_TOKEN_SIDE = 28
"""Pixels along a token of the vision tower: patches of 14 pixels, merged 2 x 2."""
_TEMPLATE_TEXT = 128
"""Tokens of the prompt template and of the names of its pictures, at most."""


@dataclass(frozen=True)
class Workload:
    """One edit in the numbers that memory and time depend on.

    ``width`` and ``height`` are the target's in pixels, ``reference_pixels`` the area of each of the ``references``,
    ``vision_tokens`` what the text encoder sees of each, ``prompt_tokens`` bounds the longer prompt.
    ``lora_width`` is the most values of a token between the two matrices of a LoRA; 0 without any.
    """

    width: int
    height: int
    references: int
    reference_pixels: int
    vision_tokens: int
    prompt_tokens: int
    guided: bool
    masked: bool = False
    lora_width: int = 0

    @property
    def target_pixels(self) -> int:
        """Area of the target."""
        return self.width * self.height

    @property
    def target_tokens(self) -> int:
        """Tokens that are denoised."""
        return self.target_pixels // _TOKEN_SIDE**2

    @property
    def reference_tokens(self) -> int:
        """Tokens of all references together."""
        return self.references * (self.reference_pixels // _TOKEN_SIDE**2)

    @property
    def text_tokens(self) -> int:
        """Tokens of the text stream: prompt, picture names and vision tokens."""
        return _TEMPLATE_TEXT + self.references * self.vision_tokens + self.prompt_tokens

    @property
    def tokens(self) -> int:
        """Tokens of one forward."""
        return self.target_tokens + self.reference_tokens + self.text_tokens

    def resized(self, width: int, height: int) -> Workload:
        """The same edit with another target."""
        return replace(self, width=width, height=height)


def workload_of(
    spec: EditSpec, profile: ModelProfile, max_reference_pixels: int, loras: Mapping[str, LoraFacts] = NO_FACTS
) -> Workload:
    """The workload of an edit's first pass; a byte of a prompt is at most one token. ``loras`` may be named by it.

    A prompt that is yet to be rewritten counts as the longest.
    """
    longest = max(len(text.encode()) for text in (spec.prompt, spec.negative_prompt or ""))
    return Workload(
        width=spec.width,
        height=spec.height,
        references=len(spec.images),
        reference_pixels=rounded_up_area(_reference_area(profile, max_reference_pixels), _multiple(profile, spec)),
        vision_tokens=_vision_tokens(profile, spec),
        prompt_tokens=profile.max_prompt_tokens if spec.rewrite else min(longest, profile.max_prompt_tokens),
        guided=spec.guided,
        masked=spec.mask is not None,
        lora_width=max((loras[lora.name].width for lora in spec.loras if lora.name in loras), default=0),
    )


def works_of(
    spec: EditSpec, profile: ModelProfile, max_reference_pixels: int, loras: Mapping[str, LoraFacts] = NO_FACTS
) -> tuple[tuple[Workload, int], ...]:
    """The workload of each pass of an edit in their order, and the steps that it takes."""
    whole = workload_of(spec, profile, max_reference_pixels, loras)
    found = [] if spec.canvas is not None else [(whole, spec.steps)]
    for each in spec.passes:
        width, height = _largest_crop(each, spec.drawn_size, profile)
        # A pass keeps what is outside its region as a mask does.
        found.append((replace(whole, width=width, height=height, masked=True), each.own_steps))
    return tuple(found)


def _largest_crop(each: PassSpec, canvas: tuple[int, int], profile: ModelProfile) -> tuple[int, int]:
    """Width and height of a pass's grid, at most: where a mask marks anything is only known once it is decoded."""
    crop = crop_of(each, canvas, profile)
    if each.mask is None or each.scale:
        return crop.width, crop.height
    multiple = profile.geometry.side_multiple
    # Brought to the model's own size, or as it is in a large picture, of which it may be nearly all.
    across, down = (-(-side // multiple) * multiple for side in canvas)
    most = max(rounded_up_area(profile.geometry.vae_pixels, 2 * multiple), across * down)
    width = max(1, math.isqrt(most) // multiple) * multiple
    height = -(-most // width // multiple) * multiple
    if width * height > each.max_pixels:
        width = max(1, math.isqrt(each.max_pixels) // multiple) * multiple
        height = max(1, each.max_pixels // width // multiple) * multiple
    return max((width, height), (crop.width, crop.height), key=math.prod)


def largest_workload(
    profile: ModelProfile, max_pixels: int, max_reference_pixels: int, lora_width: int = 0
) -> Workload:
    """The most that a plan with these caps may be asked for: all references, long prompts, guidance and a mask."""
    side = math.isqrt(max_pixels) // profile.geometry.side_multiple * profile.geometry.side_multiple
    height = max_pixels // side // profile.geometry.side_multiple * profile.geometry.side_multiple
    return Workload(
        width=side,
        height=height,
        references=profile.geometry.max_references,
        reference_pixels=rounded_up_area(_reference_area(profile, max_reference_pixels), _multiple(profile)),
        vision_tokens=_vision_tokens(profile),
        prompt_tokens=profile.max_prompt_tokens,
        guided=True,
        masked=True,
        lora_width=lora_width,
    )


def _reference_area(profile: ModelProfile, cap: int) -> int:
    return min(profile.geometry.vae_pixels, cap)


def _multiple(profile: ModelProfile, spec: EditSpec | None = None) -> int:
    """Twice the pixels that a side of a reference may grow by.

    As ComfyUI has it a side is rounded to 8 pixels, which adds 4, and then takes whole tokens, which adds 8.
    """
    if spec is not None and spec.compat is not None:
        return REFERENCE_MULTIPLE + 2 * (_TOKEN_SIDE - REFERENCE_MULTIPLE)
    return profile.geometry.reference_multiple


def _vision_tokens(profile: ModelProfile, spec: EditSpec | None = None) -> int:
    """Vision tokens of one picture: fitted to multiples of 32 first, then by the processor to multiples of 28.

    ComfyUI rounds to whole pixels first.
    """
    first = _multiple(profile) if spec is None or spec.compat is None else 2
    area = rounded_up_area(profile.geometry.vision_pixels, first)
    side = math.isqrt(area)
    return rounded_up_area(area, _VISION_TOKEN_SIDE) // _VISION_TOKEN_SIDE**2 if side else 0

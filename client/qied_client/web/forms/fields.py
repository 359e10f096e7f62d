"""The fields of an edit's form: OpenAI's and those of local servers, what each may hold, and other names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qied_client.protocol import limits
from qied_client.protocol.fields import Flag, Int, OneOf, Real, Text
from qied_client.protocol.request import BACKGROUNDS, MASK_MODES, TASKS

MOST_RESULTS: Final = 10

ALIASES: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "true_cfg_scale",
    "cfg": "true_cfg_scale",
    "cfg_scale": "true_cfg_scale",
    "loras": "lora",
    "image_prompt": "prompt",
    "enhance_prompt": "rewrite_prompt",
}
WITHOUT_EFFECT: Final = frozenset(
    {"user", "safety_identifier", "moderation", "input_fidelity", "complexity", "style", "generator_device"}
)
"""Taken, since callers send them unasked, and without effect on this model."""
PRESETS: Final = {"low": "preview", "medium": "draft", "high": "final", "xhigh": "final", "max": "final"}
"""The preset that stands for each quality; auto, standard and none: the model's own default."""


@dataclass(frozen=True)
class FormField:
    """A field of an edit's form: the values that it may have, what it means, and its default for people."""

    check: Int | Real | Text | OneOf | Flag
    about: str
    default: str = ""


FIELDS: Final[Mapping[str, FormField]] = {
    "prompt": FormField(Text(limits.PROMPT_BYTES), "What to change, or to show."),
    "model": FormField(Text(limits.NAME_CHARS, empty=True), "The served model; another one is refused."),
    "n": FormField(Int(1, MOST_RESULTS), "Results, with seeds that follow each other.", "1"),
    "size": FormField(
        Text(16, empty=True),
        "auto: the model's own size, at the aspect of the last picture if there is one; same: its own size; or "
        "kontext: one of ComfyUI's, with compat; or WIDTHxHEIGHT, "
        f"sides of up to {limits.SIDE_PX} pixels.",
        "auto",
    ),
    "quality": FormField(
        Text(limits.NAME_CHARS, empty=True), f"{', '.join(PRESETS)}, auto, or the name of a preset.", "auto"
    ),
    "background": FormField(
        OneOf(BACKGROUNDS),
        "auto, transparent: PNG and WebP are transparent where the first picture is and no mask marks; opaque: not.",
        "auto",
    ),
    "upscale": FormField(
        Text(limits.NAME_CHARS, empty=True), "An upscaling model of this server, or its scale such as 2x."
    ),
    "task": FormField(OneOf(TASKS), "upscale: only enlarge the picture; prompt and settings are not used.", "edit"),
    "rewrite_prompt": FormField(Flag(), "Have the daemon's prompt rewriter improve the prompt.", "false"),
    "output_format": FormField(OneOf(("png", "webp", "jpeg", "jpg")), "Format of the results.", "png"),
    "output_compression": FormField(Int(0, 100), "Percent of quality; a WebP of 100 is lossless.", "100"),
    "stream": FormField(Flag(), "Answer with server-sent events.", "false"),
    "partial_images": FormField(Int(0, 3), "Pictures that a stream shows on the way.", "0"),
    "response_format": FormField(OneOf(("b64_json", "url")), "The answer always has b64_json.", "b64_json"),
    "seed": FormField(Int(0, limits.SEED), "Seed of the first result; without one, of the job's id."),
    "steps": FormField(Int(1, limits.STEPS), "Denoising steps; without them, the preset's."),
    "true_cfg_scale": FormField(Real(1.0, limits.CFG_SCALE), "Strength of guidance; without it, the preset's."),
    "negative_prompt": FormField(Text(limits.NEGATIVE_PROMPT_BYTES, empty=True), "What to avoid."),
    "lora": FormField(
        Text(limits.HEADER_BYTES, empty=True),
        'A name, or JSON: a name, a list of names or of {"name", "scale"}, or an object of strengths.',
    ),
    "preset": FormField(Text(limits.ID_CHARS, empty=True), "Named settings; GET /api/me lists them."),
    "recipe": FormField(Text(limits.ID_CHARS, empty=True), "A shipped recipe; other fields go before its options."),
    "precision": FormField(Text(limits.NAME_CHARS, empty=True), "Refuse the edit unless the model runs in this one."),
    "preemptible": FormField(Flag(), "Give way to everybody's edits that are not, and start again for them.", "false"),
    "priority": FormField(Int(-limits.PRIORITY, limits.PRIORITY), "Order among one's own waiting jobs.", "0"),
    "width": FormField(Int(1, limits.SIDE_PX), "Width in pixels."),
    "height": FormField(Int(1, limits.SIDE_PX), "Height in pixels."),
    "on_cap": FormField(OneOf(("refuse", "fit")), "What to do with a size above this machine's cap.", "refuse"),
    "mask_mode": FormField(OneOf(MASK_MODES), "Which part of the mask is edited."),
    "redraw": FormField(
        Text(limits.HEADER_BYTES, empty=True),
        "Regions to draw again: LEFT,TOP,WIDTH,HEIGHT in pixels and options such as strength=0.4, regions apart by "
        "semicolons; or JSON: an object of box, strength, padding, feather, steps, scale and precision, or a list.",
    ),
    "refine": FormField(Real(0.0, 1.0), "Strength of a last pass over the whole result; 0 is none.", "0"),
    "align": FormField(Flag(), "Undo a small shift and zoom of the result against its picture.", "true"),
    "compat": FormField(
        Text(limits.NAME_CHARS, empty=True),
        "comfyui: do the edit as ComfyUI does; settings may follow, as in comfyui,shift=3,cfg_norm=none.",
    ),
    "base": FormField(Int(0, 2**31 - 1), "The turn of a session that is edited; without it, the latest."),
}
"""Every field that counts, by its own name; ``ALIASES`` are other names for some. Numbers and flags come as text."""

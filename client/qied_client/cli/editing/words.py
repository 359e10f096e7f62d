"""Errors of an edit in the words of the command line: options in place of a request's fields."""

from __future__ import annotations

import re
from typing import Final

from qied_client.errors import InvalidRequest, QiedError
from qied_client.protocol import limits

FLAGS: Final = {
    "images": "IMAGE",
    "prompt": "PROMPT",
    "seed": "--seed",
    "negative_prompt": "--negative",
    "steps": "--steps",
    "true_cfg_scale": "--cfg",
    "width": "--width",
    "height": "--height",
    "preset": "--preset",
    "precision": "--precision",
    "loras": "--lora",
    "mask": "--mask",
    "mask_mode": "--mask-mode",
    "output_quality": "--quality",
    "size": "--size",
    "background": "--background",
    "rewrite_prompt": "--rewrite-prompt",
    "upscale": "--upscale",
    "on_cap": "--fit",
    "output_format": "--out",
    "priority": "--priority",
    "preemptible": "--preemptible",
    "redraw": "--redraw",
    "refine": "--refine",
    "align": "--no-align",
    "compat": "--compat",
    "canvas": "--canvas",
    "job": "--job",
    "address": "--address",
    "out": "--out",
}
"""What the command line calls the fields of a request."""

_PHRASES: Final = (
    ("or let the daemon fit it (on_cap='fit')", "or let the daemon fit it with --fit"),
    ("width and height: one is missing", "--width and --height: one is missing"),
    ("leave the precision out", "leave --precision out"),
    ("or leave the background out", "or leave --background out"),
    ("ask for the background 'opaque'", "use --background opaque"),
    ("leave rewrite_prompt out", "leave --rewrite-prompt out"),
    ("Leave out width and height, or size.", "Leave out --width and --height, or --size."),
    ("Leave out size, or width and height.", "Leave out --size, or --width and --height."),
    ("size: width or height is given too", "size: --width or --height is given too"),
    (
        "Give 'default', 'same', 'kontext', or both sides in pixels such as '1024x768'.",
        "Write --size 1024x768, or --size same.",
    ),
    ("Give compat='comfyui' too, or leave size out.", "Give --compat comfyui too, or leave --size out."),
)

_REMEDIES: Final = {
    "--lora": "Write NAME or NAME:0.8, with a strength from -4 to 4.",
    "--no-align": "Write --no-align, or leave it out.",
    "--compat": "Write --compat comfyui, or with settings as in --compat comfyui,shift=3.",
    "--refine": "Write a strength from 0 to 1, such as --refine 0.2.",
}
"""What to do where the remedy of the library is in Python's words."""


def phrased(text: str) -> str:
    """A text of the daemon, such as a warning, which names options where it named fields."""
    for said, meant in _PHRASES:
        text = text.replace(said, meant)
    return text


def in_flags(error: QiedError) -> QiedError:
    """The same error, which names options where it named fields, and sizes where a side is off the grid."""
    message, remedy = phrased(error.message), phrased(error.remedy)
    name = str(error.details.get("field") or "")
    flag = FLAGS.get(re.split(r"[.\[]", name, maxsplit=1)[0])
    if isinstance(error, InvalidRequest) and flag is not None:
        if message.startswith(f"{name}: "):
            message = f"{flag}: {message.removeprefix(f'{name}: ')}"
        if remedy == "Correct this field." or remedy.startswith("Give "):
            remedy = _nearest(message) or _REMEDIES.get(flag) or remedy.replace("this field", flag)
    if (message, remedy) == (error.message, error.remedy):
        return error
    told = type(error)(message, remedy)
    told.details = error.details
    return told


def _nearest(message: str) -> str:
    """The sides next to one that is not on the grid, where the message says so."""
    if (found := re.search(r"multiple of (\d+), not (\d+)", message)) is None:
        return ""
    grid, side = map(int, found.groups())
    below = max(grid, side // grid * grid)
    sides = sorted({min(below, limits.SIDE_PX), min(below + grid, limits.SIDE_PX)})
    return f"Give {' or '.join(map(str, sides))}."

"""Every option of an edit: its type, its unit and default, what it does, and how help shows that."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, Literal, TypedDict, TypeVar

from qied_client.inputs import Picture
from qied_client.options.compat import COMPAT_VALUES
from qied_client.options.loras import LORA_VALUES, Loras
from qied_client.options.redraws import REDRAW_VALUES, REFINE_VALUES, Redraws
from qied_client.protocol import limits
from qied_client.protocol.request import AUTO_UPSCALER, EditRequest


class EditOptions(TypedDict, total=False):
    """Every option of an edit; ``OPTIONS`` says what each means. None leaves the choice to the daemon."""

    negative_prompt: str | None
    seed: int | None
    steps: int | None
    true_cfg_scale: float | None
    width: int | None
    height: int | None
    preset: str | None
    precision: str | None
    loras: Loras | None
    mask: Picture | None
    on_cap: Literal["refuse", "fit"]
    mask_mode: Literal["auto", "white", "transparent", "opaque"]
    size: str
    output_format: Literal["png", "webp", "jpeg"]
    output_quality: int
    background: Literal["auto", "transparent", "opaque"]
    rewrite_prompt: bool
    upscale: str
    task: Literal["edit", "upscale"]
    previews: bool
    priority: int
    preemptible: bool
    redraw: Redraws | None
    refine: float | bool | None
    canvas: Picture | None
    align: bool
    compat: str | None


@dataclass(frozen=True)
class Option:
    """What one option takes (``values``, with the unit), what it does, and what None means."""

    values: str
    meaning: str
    without: str = ""


_SIDE: Final = f"pixels, 1 to {limits.SIDE_PX}"
_NAME: Final = f"a name of at most {limits.NAME_CHARS} characters"

OPTIONS: Final[Mapping[str, Option]] = {
    "negative_prompt": Option(
        f"text of at most {limits.NEGATIVE_PROMPT_BYTES} bytes of UTF-8",
        "What the result should not show; it counts only if true_cfg_scale is above 1.",
        "the model's own",
    ),
    "seed": Option(
        f"an integer from 0 to {limits.SEED}",
        "The same seed and the same request give the same picture.",
        "made from the job's id",
    ),
    "steps": Option(
        f"an integer from 1 to {limits.STEPS}",
        "Denoising steps (num_inference_steps in diffusers).",
        "the preset's",
    ),
    "true_cfg_scale": Option(
        f"a number from 1 to {limits.CFG_SCALE:g}",
        "How strongly the prompt guides; 1 turns guidance off and halves the time.",
        "the preset's",
    ),
    "width": Option(
        _SIDE, "Width of the result, given together with height.", "the last picture's aspect at the model's own size"
    ),
    "height": Option(
        _SIDE, "Height of the result, given together with width.", "the last picture's aspect at the model's own size"
    ),
    "preset": Option(
        _NAME,
        "Steps, guidance and LoRAs under one name, such as preview, draft or final; Client.welcome.presets lists them.",
        "the model's usual settings",
    ),
    "precision": Option(
        _NAME,
        "Refuse the edit unless the daemon runs this precision, such as fp8, fp8-storage or bf16.",
        "whatever it runs",
    ),
    "loras": Option(
        LORA_VALUES,
        f"LoRAs in the daemon's folders, at most {limits.LORAS}; a name alone has strength 1.",
    ),
    "mask": Option(
        "a picture, as the first argument takes it",
        "White where to edit, black where the picture stays as it is; stretched to its size. See mask_mode.",
        "edit everywhere",
    ),
    "on_cap": Option(
        "'refuse' or 'fit'",
        "What happens above the largest size of the daemon's machine: refuse with AboveCap, or fit the result to it.",
    ),
    "mask_mode": Option(
        "'auto', 'white', 'transparent' or 'opaque'",
        "What of the mask is edited: its white part; its transparent part, as OpenAI and ComfyUI's mask editor mean "
        "it; its opaque part, as strokes on a clear canvas; 'auto' goes by the file, and tells where it had to guess.",
    ),
    "size": Option(
        "'default', 'same', 'kontext', or both sides in pixels such as '1024x768'",
        "The result's size: about a megapixel, or the last picture's own size to the pixel, or a width and a height; "
        "'kontext', which goes with compat, is the one of ComfyUI's FluxKontextImageScale.",
    ),
    "output_format": Option("'png', 'webp' or 'jpeg'", "Format of the result; PNG and WebP of 100 are lossless."),
    "output_quality": Option("an integer from 1 to 100", "Quality of a JPEG or WebP; a WebP of 100 is lossless."),
    "background": Option(
        "'auto', 'transparent' or 'opaque'",
        "With 'auto' and 'transparent' a PNG or WebP is transparent where the first picture is and no mask marks; "
        "'auto' says so in a warning. 'opaque' makes all of the result visible.",
    ),
    "rewrite_prompt": Option("True or False", "Have the daemon's prompt rewriter, if it has one, improve the prompt."),
    "upscale": Option(
        f"the name of an upscaling model of the daemon, a scale such as '2x', or '{AUTO_UPSCALER}': 4x, or the nearest",
        "Enlarge the result at the end.",
    ),
    "task": Option(
        "'edit' or 'upscale'", "With 'upscale' the picture is only enlarged, and prompt and settings are not used."
    ),
    "previews": Option("True or False", "Whether on_progress and events() get small pictures on the way."),
    "priority": Option(
        f"an integer from {-limits.PRIORITY} to {limits.PRIORITY}",
        "Which of your own waiting edits starts first: the one with the highest.",
    ),
    "preemptible": Option(
        "True or False",
        "Whether the edit gives way to everybody's edits that are not preemptible, and starts again where it must.",
    ),
    "redraw": Option(
        REDRAW_VALUES,
        "Regions of the result that are drawn again, each in a crop of its own at the picture's full resolution, from "
        "what is there noised to a strength of 0.5 (1 is all new). Nothing outside of them changes.",
        "none",
    ),
    "refine": Option(
        REFINE_VALUES, "A last pass over the whole result, from the result noised to this strength.", "none"
    ),
    "canvas": Option(
        "a picture, as the first argument takes it",
        "Draw redraw and refine on this picture, and nothing else; the pictures of the edit are what it goes by.",
        "the result of a first pass from noise",
    ),
    "align": Option(
        "True or False", "Whether a small shift and zoom of the result against its picture is undone, or only measured."
    ),
    "compat": Option(
        COMPAT_VALUES,
        "Prepare pictures, noise and sigmas and guide the model as ComfyUI does, for the same picture as there. The "
        "size is then by default that of FluxKontextImageScale, and align only measures.",
        "as diffusers does, with less drift",
    ),
}
_DEFAULTS: Final = {
    name: None if field.default is MISSING or name == "mask" else field.default
    for field in fields(EditRequest)
    if (name := field.name) in OPTIONS
}

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def shows_options(function: AnyFunction) -> AnyFunction:
    """Have ``help``, ``inspect`` and completion show every option of a function that takes ``**options``."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation(name))
        for name in OPTIONS
        if name not in signature.parameters
    ]
    function.__signature__ = signature.replace(parameters=[*parameters, *shown])  # type: ignore[attr-defined]
    if function.__doc__ is not None:
        function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{options_table()}"
    return function


def annotation(name: str) -> str:
    """The type of an option as it is written in ``EditOptions``."""
    return str(EditOptions.__annotations__[name].__forward_arg__)


def options_table() -> str:
    """Name, type, values, default and meaning of every option, as text."""
    return "Options:\n\n" + "\n".join(_entry(name) for name in OPTIONS)


def _entry(name: str) -> str:
    option = OPTIONS[name]
    without = f" ({option.without})" if option.without else ""
    text = f"{option.values}; default {_DEFAULTS[name]!r}{without}. {option.meaning}"
    return f"{name} : {annotation(name)}\n{textwrap.indent(textwrap.fill(text, 96), '    ')}"

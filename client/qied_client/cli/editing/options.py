"""The options of an edit, for every command that makes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from qied_client.cli import completing
from qied_client.errors import InvalidRequest

Negative = Annotated[str | None, typer.Option(help="Negative prompt; used only if CFG is above 1.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same picture; random by default.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps, 1 to 200.")]
Cfg = Annotated[float | None, typer.Option(help="True CFG scale, 1 to 20; 1 turns it off.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels.")]
Preset = Annotated[str | None, typer.Option(help="Named settings: see 'presets'.", autocompletion=completing.presets)]
Precision = Annotated[
    str | None,
    typer.Option(help="Fail unless the daemon runs this precision.", autocompletion=completing.precisions),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(help="NAME or NAME:STRENGTH; may be repeated; see 'loras'.", autocompletion=completing.loras),
]
Mask = Annotated[Path | None, typer.Option(help="Mask picture: white where to edit.")]
MaskMode = Annotated[
    str | None,
    typer.Option(
        "--mask-mode",
        help="What of the mask is edited: white; transparent, as OpenAI and ComfyUI's editor mean it; opaque; or auto.",
        autocompletion=completing.mask_modes,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="WIDTHxHEIGHT; same: the last picture's own size, to the pixel; kontext: see --compat.",
        autocompletion=completing.sizes,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        help="opaque: show all of the result; auto, transparent: transparent where the first picture is.",
        autocompletion=completing.backgrounds,
    ),
]
RewritePrompt = Annotated[
    bool, typer.Option("--rewrite-prompt", help="Have the daemon's prompt rewriter, if it has one, improve the prompt.")
]
Upscale = Annotated[
    str | None,
    typer.Option(
        "--upscale",
        help="2x or 4x, or the name of an upscaling model: enlarge the result.",
        autocompletion=completing.upscalers,
    ),
]
Quality = Annotated[
    int | None, typer.Option(help="1 to 100, of a JPEG (95 by default) or a WebP (100, without loss, by default).")
]
Fit = Annotated[bool, typer.Option("--fit", help="Shrink the result to the daemon's cap if it is larger.")]
Preemptible = Annotated[
    bool, typer.Option("--preemptible", help="Give way to everybody's other edits, as those of 'batch' do.")
]
Redraw = Annotated[
    list[str] | None,
    typer.Option(
        help="LEFT,TOP,WIDTH,HEIGHT of a region to draw again, in the result's pixels; then options such as "
        "strength=0.4 or mask=FILE; may be repeated."
    ),
]
Canvas = Annotated[
    Path | None, typer.Option(help="Draw --redraw and --refine on this picture, and nothing else; see 'redraw'.")
]
Refine = Annotated[
    float | None, typer.Option(help="A last pass over the whole result, of this strength (0 to 1; 0.2 is usual).")
]
NoAlign = Annotated[bool, typer.Option("--no-align", help="Only measure how far the result moved, do not undo it.")]
Compat = Annotated[
    str | None,
    typer.Option(
        help="comfyui: do the edit as ComfyUI does; settings may follow, as in comfyui,shift=3,cfg_norm=none.",
        autocompletion=completing.programs,
    ),
]
Priority = Annotated[int, typer.Option(help="-10 to 10: which of your own edits goes first.")]
Recipe = Annotated[
    str | None, typer.Option(help="A recipe's name or file; see 'recipes'.", autocompletion=completing.recipes)
]


def over_recipe(recipe: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a recipe, under those that the command line gives: what it leaves out is the recipe's."""
    given = {name: value for name, value in options.items() if value is not None and value != []}
    if given.get("on_cap") == "refuse":  # no --fit
        del given["on_cap"]
    return {**recipe, **given}


def edit_options(
    *,
    negative: str | None,
    steps: int | None,
    cfg: float | None,
    width: int | None,
    height: int | None,
    preset: str | None,
    precision: str | None,
    lora: list[str] | None,
    mask: Path | None,
    mask_mode: str | None,
    size: str | None,
    fit: bool,
    priority: int,
    preemptible: bool = False,
    background: str | None = None,
    rewrite_prompt: bool = False,
    upscale: str | None = None,
    redraw: list[str] | None = None,
    canvas: Path | None = None,
    refine: float | None = None,
    no_align: bool = False,
    compat: str | None = None,
) -> dict[str, Any]:
    """The options of ``Client.edit`` from those of the command line; raises InvalidRequest.

    The seed, and what ``Place.asks``, are not among them.
    """
    return {
        "negative_prompt": negative,
        "steps": steps,
        "true_cfg_scale": cfg,
        "width": width,
        "height": height,
        "preset": preset,
        "precision": precision,
        "loras": [_lora(text) for text in lora or ()],
        "mask": mask,
        **({"mask_mode": mask_mode} if mask_mode is not None else {}),
        **({"size": size} if size is not None else {}),
        **({"background": background} if background is not None else {}),
        **({"rewrite_prompt": True} if rewrite_prompt else {}),
        **({"upscale": upscale} if upscale else {}),
        "on_cap": "fit" if fit else "refuse",
        "priority": priority,
        **({"preemptible": True} if preemptible else {}),
        **({"redraw": redraw} if redraw else {}),
        **({"canvas": canvas} if canvas is not None else {}),
        **({"refine": refine} if refine is not None else {}),
        **({"align": False} if no_align else {}),
        **({"compat": compat} if compat else {}),
    }


def _lora(text: str) -> str | tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    if not colon:
        return text
    try:
        return name, float(strength)
    except ValueError:
        raise InvalidRequest(f"--lora {text}: {strength!r} is not a number.", "Write NAME:0.8.") from None

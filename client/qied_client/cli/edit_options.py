"""The options of an edit, for every command that makes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qied_client.errors import InvalidRequest

Out = Annotated[Path, typer.Option("-o", "--out", help="Output file: .png or .webp.")]
Negative = Annotated[str | None, typer.Option(help="Negative prompt; used only if CFG is above 1.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same picture; random by default.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps, 1 to 200.")]
Cfg = Annotated[float | None, typer.Option(help="True CFG scale, 1 to 20; 1 turns it off.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels, a multiple of 16.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels, a multiple of 16.")]
Preset = Annotated[str | None, typer.Option(help="Named settings: preview, draft or final.")]
Precision = Annotated[str | None, typer.Option(help="Fail unless the daemon runs this precision.")]
Lora = Annotated[list[str] | None, typer.Option(help="NAME or NAME:STRENGTH; may be repeated.")]
Mask = Annotated[Path | None, typer.Option(help="Mask picture: white where to edit.")]
Fit = Annotated[bool, typer.Option("--fit", help="Shrink the result to the daemon's cap if it is larger.")]
Priority = Annotated[int, typer.Option(help="-10 to 10: which of your own edits goes first.")]

_FORMATS = {".png": "png", ".webp": "webp"}


def edit_options(
    *,
    out: Path,
    negative: str | None,
    seed: int | None,
    steps: int | None,
    cfg: float | None,
    width: int | None,
    height: int | None,
    preset: str | None,
    precision: str | None,
    lora: list[str] | None,
    mask: Path | None,
    fit: bool,
    priority: int,
) -> dict[str, Any]:
    """The options of ``Client.edit`` that the command line means; raises InvalidRequest."""
    return {
        "negative_prompt": negative,
        "seed": seed,
        "steps": steps,
        "true_cfg_scale": cfg,
        "width": width,
        "height": height,
        "preset": preset,
        "precision": precision,
        "loras": [_lora(text) for text in lora or ()],
        "mask": mask,
        "on_cap": "fit" if fit else "refuse",
        "output_format": _output_format(out),
        "priority": priority,
    }


def check_folder(out: Path) -> None:
    """Refuse a place that cannot hold a file, before anything is started."""
    if not out.parent.is_dir():
        raise InvalidRequest(f"{out}: there is no folder {out.parent}.", "Create it first, or choose another.")


def _lora(text: str) -> str | tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    if not colon:
        return text
    try:
        return name, float(strength)
    except ValueError:
        raise InvalidRequest(f"--lora {text}: {strength!r} is not a number.", "Write NAME:0.8.") from None


def _output_format(out: Path) -> str:
    """Format that the name of the result asks for."""
    if out.suffix.lower() not in _FORMATS:
        raise InvalidRequest(f"{out.name}: results are PNG or WebP.", "Choose a name that ends in .png or .webp.")
    check_folder(out)
    return _FORMATS[out.suffix.lower()]

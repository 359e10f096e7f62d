"""``redraw``: a region of a picture drawn again, or all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qied_client.cli import completing
from qied_client.cli.editing import options as o
from qied_client.cli.editing.command import show_saved, show_warnings
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import Edits
from qied_client.cli.editing.words import in_flags
from qied_client.cli.exit_status import INTERRUPTED
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.client import Client
from qied_client.errors import InvalidRequest, QiedError
from qied_client.options.redrawing import redrawing
from qied_client.picture_metadata import read_metadata


def redraw(
    picture: Annotated[Path, typer.Argument(help="The picture to draw on, such as a result.")],
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, in quotes; without it, the prompt that is in the picture.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg; {n} and {seed} may be in its name."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT of the region in pixels; without it, all of the picture.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask picture: white where to draw; within the box, if any.")
    ] = None,
    mask_mode: o.MaskMode = None,
    strength: Annotated[float, typer.Option(help="How much is new, 0.01 to 1; 1 keeps nothing.")] = 0.5,
    padding: Annotated[
        int | None,
        typer.Option(help="Pixels around the region that the model sees as well; without it, as many as it needs."),
    ] = None,
    feather: Annotated[int, typer.Option(help="Pixels inside the region's rim that fade into the picture.")] = 8,
    scale: Annotated[
        float | None, typer.Option(help="Pixels drawn for each of the picture's along a side, 0.125 to 8.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="A picture that the prompt is about, such as the one that was edited; may be repeated."),
    ] = None,
    refine: o.Refine = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Variations, 1 to 100, each with its own seed.")] = 1,
    negative: o.Negative = None,
    seed: o.Seed = None,
    steps: o.Steps = None,
    cfg: o.Cfg = None,
    preset: o.Preset = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Precision to draw in, where the daemon holds it.", autocompletion=completing.precisions),
    ] = None,
    lora: o.Lora = None,
    upscale: o.Upscale = None,
    quality: o.Quality = None,
    priority: o.Priority = 0,
    job: Annotated[str | None, typer.Option(help="Job id; the same command again gives the same picture.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Draw a region of a picture again; nothing outside of it changes."""
    with failures_as_text(_in_flags):
        if out is None:
            raise InvalidRequest("The output file is missing.", "Name it: -o out.png", field="out")
        place = Place(out, count, quality)
        place.check()
        region: dict[str, Any] = {"mask": mask, "strength": strength, "padding": padding, "feather": feather}
        region |= {"box": box_of(box)} if box is not None else {}
        region |= {"mask_mode": mask_mode} if mask_mode is not None else {}
        region |= {"scale": scale, "precision": precision, "refine": refine}
        settings = o.edit_options(
            negative=negative,
            steps=steps,
            cfg=cfg,
            width=None,
            height=None,
            preset=preset,
            precision=None,
            lora=lora,
            mask=None,
            mask_mode=None,
            size=None,
            upscale=upscale,
            fit=False,
            priority=priority,
        )
        settings.pop("mask")
        pictures, asked, options = redrawing(
            picture,
            prompt or _prompt_in(picture),
            reference,
            {**settings, **region},  # type: ignore[typeddict-item]
        )
        with Client(key, address=address) as client:
            edits = Edits(client, place, job, seed)
            try:
                done = edits.run(
                    [Path(str(each)) for each in pictures], asked, {**options, **place.asks(client.welcome.version)}
                )
            except KeyboardInterrupt:
                edits.stop(Console(stderr=True, highlight=False))
                raise typer.Exit(INTERRUPTED) from None
        show_warnings(done)
        show_saved(Console(highlight=False), done, as_json, many=count > 1)


def _in_flags(error: QiedError) -> QiedError:
    """The same error, which names this command's options where it named those of a pass."""
    found = re.match(r"redraw(\[\d\])?\.(\w+)", str(error.details.get("field") or ""))
    if found is None:
        return in_flags(error)
    told = type(error)(error.message.replace(found[0], f"--{found[2].replace('_', '-')}", 1), error.remedy)
    told.details = error.details
    return told


def box_of(text: str) -> tuple[int, ...]:
    """The numbers of LEFT,TOP,WIDTH,HEIGHT; raises InvalidRequest for anything else."""
    words = text.split(",")
    if len(words) != 4 or not all(word.strip().isascii() and word.strip().isdecimal() for word in words):
        raise InvalidRequest(
            f"--box: {text[:40]!r} is not LEFT,TOP,WIDTH,HEIGHT.",
            "Write whole pixels: --box 100,80,300,200.",
            field="box",
        )
    return tuple(int(word) for word in words)


def _prompt_in(picture: Path) -> str:
    metadata = read_metadata(picture)
    if metadata is None:
        raise InvalidRequest(
            f"The prompt is missing, and {picture.name} has none inside.",
            f'Say what to draw: redraw {picture.name} "a smiling face" -o out.png',
            field="prompt",
        )
    return metadata.prompt

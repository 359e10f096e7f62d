"""``edit``: its options, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.drawing import can_draw, show_pictures
from qied_client.cli.editing import options as o
from qied_client.cli.editing.arguments import told_apart
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import Edits, Saved
from qied_client.cli.editing.words import in_flags, phrased
from qied_client.cli.exit_status import INTERRUPTED
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.cli.status import seconds
from qied_client.client import Client
from qied_client.errors import InvalidRequest
from qied_client.inputs import Picture
from qied_client.protocol.messages import MeasuredDrift
from qied_client.recipes import recipe_named, require_mask, require_stages
from qied_client.text import counted

_SEEN_PX: Final = 0.25
_SEEN_ZOOM: Final = 0.001


class Drawing(str, Enum):
    """Whether ``edit`` draws pictures in the terminal."""

    AUTO = "auto"
    NEVER = "never"


def edit(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE... PROMPT", help="Pictures (PNG, JPEG, WebP, AVIF, HEIC); then what to change, in quotes."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg; {n} and {seed} may be in its name."),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Variations, 1 to 100, each with its own seed.")] = 1,
    negative: o.Negative = None,
    seed: o.Seed = None,
    steps: o.Steps = None,
    cfg: o.Cfg = None,
    width: o.Width = None,
    height: o.Height = None,
    preset: o.Preset = None,
    precision: o.Precision = None,
    lora: o.Lora = None,
    mask: o.Mask = None,
    mask_mode: o.MaskMode = None,
    size: o.Size = None,
    background: o.Background = None,
    rewrite_prompt: o.RewritePrompt = False,
    upscale: o.Upscale = None,
    quality: o.Quality = None,
    fit: o.Fit = False,
    recipe: o.Recipe = None,
    priority: o.Priority = 0,
    preemptible: o.Preemptible = False,
    redraw: o.Redraw = None,
    canvas: o.Canvas = None,
    refine: o.Refine = None,
    no_align: o.NoAlign = False,
    compat: o.Compat = None,
    job: Annotated[str | None, typer.Option(help="Job id; the same command again gives the same picture.")] = None,
    picture: Annotated[
        Drawing, typer.Option(help="Show the pictures in the terminal if it can: auto or never.")
    ] = Drawing.AUTO,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="The same as --picture never.")] = False,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Edit pictures and save the result."""
    with failures_as_text(in_flags):
        pictures, prompt = told_apart(words or [])
        place = checked_place(out, count, quality)
        options = o.edit_options(
            negative=negative,
            steps=steps,
            cfg=cfg,
            width=width,
            height=height,
            preset=preset,
            precision=precision,
            lora=lora,
            mask=mask,
            mask_mode=mask_mode,
            size=size,
            background=background,
            rewrite_prompt=rewrite_prompt,
            upscale=upscale,
            fit=fit,
            priority=priority,
            preemptible=preemptible,
            redraw=redraw,
            canvas=canvas,
            refine=refine,
            no_align=no_align,
            compat=compat,
        )
        chosen = recipe_named(recipe) if recipe is not None else None
        if chosen is not None:
            options, prompt = o.over_recipe(chosen.options(), options), chosen.prompt_for(prompt)
            require_mask(chosen, mask)
        with Client(key, address=address) as client:
            if chosen is not None:
                require_stages(chosen, client.describe().stages)
            done = carried_out(client, place, pictures, prompt, options, job=job, seed=seed)
        drawing = Drawing.NEVER if no_picture or as_json else picture
        show_done(done, drawing, as_json, before=pictures[-1], many=count > 1)


def checked_place(out: Path | None, count: int, quality: int | None) -> Place:
    """Where the results go; raises InvalidRequest where nothing says so, or nothing can be written there."""
    if out is None:
        raise InvalidRequest("The output file is missing.", "Name it: -o out.png", field="out")
    place = Place(out, count, quality)
    place.check()
    return place


def carried_out(
    client: Client,
    place: Place,
    pictures: Sequence[Picture],
    prompt: str,
    options: dict[str, Any],
    *,
    job: str | None,
    seed: int | None,
) -> list[Saved]:
    """Do all edits of a command; Ctrl-C cancels them and ends the program. Tells warnings."""
    options.update(place.asks(client.welcome.version))
    edits = Edits(client, place, job, seed)
    try:
        done = edits.run(pictures, prompt, options)
    except KeyboardInterrupt:
        edits.stop(Console(stderr=True, highlight=False))
        raise typer.Exit(INTERRUPTED) from None
    show_warnings(done)
    return done


def show_done(done: list[Saved], drawing: Drawing, as_json: bool, *, before: Path | None, many: bool) -> None:
    """Print what was saved, and draw it where that is wanted and possible, next to the picture ``before``."""
    console = Console(highlight=False)
    if drawing is not Drawing.NEVER and can_draw(console):
        befores = [("before", before.read_bytes())] if before is not None else []
        afters = [(saved.path.name if many else "after" if befores else "result", saved.result.bytes) for saved in done]
        show_pictures(console, [*befores, *afters])
    show_saved(console, done, as_json, many=many)


def show_warnings(done: list[Saved]) -> None:
    """Print what was probably not intended on standard error, each of it once."""
    console = Console(stderr=True, highlight=False)
    for warning in dict.fromkeys(text for saved in done for text in saved.result.warnings):
        console.print(Text(f"warning: {phrased(warning)}", "yellow"), soft_wrap=True)


def show_saved(console: Console, done: list[Saved], as_json: bool, *, many: bool = False) -> None:
    """Print a line for each result, or JSON: an object, or an array where ``many`` were asked for."""
    if as_json:
        rows = [_facts(saved) for saved in done]
        console.print_json(json.dumps(rows if many else rows[0]))
        return
    for saved in done:
        console.print(_line(saved), soft_wrap=True)


def _facts(saved: Saved) -> dict[str, Any]:
    facts = asdict(saved.result)
    del facts["bytes"]
    return {"path": str(saved.path), **facts}


def _line(saved: Saved) -> Text:
    result = saved.result
    text = Text.assemble((str(saved.path), "bold"), f"  {result.width}x{result.height}")
    if result.turn is not None:
        text.append(f"  turn {result.turn}")
    if result.precision:
        text.append("  ").append(f"[{result.precision.upper()}]", "bold cyan")
    upscaled = bool(result.steps) and not result.precision  # nothing was drawn: its step and its seed say nothing
    if result.steps and not upscaled:
        steps = counted(result.steps, "step")
        text.append(f"  {result.preset}, {steps}" if result.preset else f"  {steps}")
    if not upscaled:
        text.append(f"  seed {result.seed}")
    text.append(f"  {seconds(round(result.timings.get('held_ms', 0)))}")
    return text.append(f"  {moved}") if (moved := drift_in_words(result.drift)) else text


def drift_in_words(drift: MeasuredDrift | None) -> str:
    """How far a result had moved against its picture; nothing where that cannot be seen."""
    if drift is None or (max(abs(drift.x), abs(drift.y)) < _SEEN_PX and abs(drift.zoom - 1) < _SEEN_ZOOM):
        return ""
    moved = f"{drift.x:+.1f} {drift.y:+.1f} px {100 * (drift.zoom - 1):+.2f}%"
    return f"drift {moved} undone" if drift.undone else f"drift {moved}"

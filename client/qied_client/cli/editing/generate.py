"""``generate``: pictures from text alone, with the options of ``edit`` that need no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qied_client.cli.connecting import connected
from qied_client.cli.editing import options as o
from qied_client.cli.editing.command import Drawing, carried_out, checked_place, show_done
from qied_client.cli.editing.words import in_flags
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.errors import InvalidRequest


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What to show, in quotes.")] = None,
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
    size: Annotated[str | None, typer.Option("--size", help="WIDTHxHEIGHT, such as 1664x928.")] = None,
    preset: o.Preset = None,
    precision: o.Precision = None,
    lora: o.Lora = None,
    rewrite_prompt: o.RewritePrompt = False,
    upscale: o.Upscale = None,
    compat: o.Compat = None,
    quality: o.Quality = None,
    fit: o.Fit = False,
    priority: o.Priority = 0,
    job: Annotated[str | None, typer.Option(help="Job id; the same command again gives the same picture.")] = None,
    picture: Annotated[
        Drawing, typer.Option(help="Show the pictures in the terminal if it can: auto or never.")
    ] = Drawing.AUTO,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="The same as --picture never.")] = False,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make pictures from text alone, where the daemon serves a model that does, and save them."""
    with failures_as_text(in_flags):
        if not prompt:
            raise InvalidRequest("The prompt is missing.", "Say what to show, in quotes.", field="prompt")
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
            mask=None,
            mask_mode=None,
            size=size,
            rewrite_prompt=rewrite_prompt,
            upscale=upscale,
            compat=compat,
            fit=fit,
            priority=priority,
        )
        with connected(key, address) as client:
            done = carried_out(client, place, [], prompt, options, job=job, seed=seed)
        drawing = Drawing.NEVER if no_picture or as_json else picture
        show_done(done, drawing, as_json, before=None, many=count > 1)

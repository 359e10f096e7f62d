"""``batch``: its options, and how it runs from the check to the report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from qied_client.batch.names import Names
from qied_client.batch.run import AT_ONCE
from qied_client.batch.sources import is_manifest, is_source
from qied_client.cli.batch.starting import start_of
from qied_client.cli.batch.work import Work
from qied_client.cli.editing import options as o
from qied_client.cli.editing.words import in_flags
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.errors import InvalidRequest
from qied_client.recipes import Recipe, recipe_named


def batch(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE... [PROMPT]",
            help="Pictures, a folder, a pattern in quotes, or a manifest (.csv, .jsonl); then what to change.",
        ),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--out",
            help="Names of the results, once for each format; {stem}, {name}, {index}, {seed} and {n} may be in them.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Variations of each row, 1 to 100.")] = 1,
    recipe: o.Recipe = None,
    at: Annotated[str | None, typer.Option(help="Begin at this time: 22:00.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Edit what comes into the folder, until Ctrl-C.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the rows, the plan and the time; edit nothing.")
    ] = False,
    at_once: Annotated[int, typer.Option(help="Edits under way at a time, 1 to 64.")] = AT_ONCE,
    contact_sheet: Annotated[bool, typer.Option(help="Write a contact sheet of all results.")] = True,
    preemptible: Annotated[bool, typer.Option(help="Give way to everybody's other edits.")] = True,
    negative: o.Negative = None,
    seed: o.Seed = None,
    steps: o.Steps = None,
    cfg: o.Cfg = None,
    width: o.Width = None,
    height: o.Height = None,
    preset: o.Preset = None,
    precision: o.Precision = None,
    lora: o.Lora = None,
    mask: Annotated[str | None, typer.Option(help="Mask: one for all, or masks/{stem}.png.")] = None,
    mask_mode: o.MaskMode = None,
    size: o.Size = None,
    upscale: o.Upscale = None,
    compat: o.Compat = None,
    quality: o.Quality = None,
    fit: o.Fit = False,
    priority: o.Priority = 0,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Edit many pictures; the same command again does what is missing."""
    with failures_as_text(in_flags):
        sources, prompt = told_apart(words or [])
        chosen = recipe_named(recipe) if recipe is not None else None
        given = o.edit_options(
            negative=negative,
            steps=steps,
            cfg=cfg,
            width=width,
            height=height,
            preset=preset,
            precision=precision,
            lora=lora,
            mask=None,
            mask_mode=mask_mode,
            size=size,
            upscale=upscale,
            compat=compat,
            fit=fit,
            priority=priority,
            preemptible=preemptible,
        )
        options = o.over_recipe({} if chosen is None else chosen.options(), given)
        options |= {name: value for name, value in (("mask", mask), ("seed", seed)) if value is not None}
        work = Work(
            sources=sources,
            prompt=prompt,
            names=names_of(out or [], count, quality, chosen),
            options={"previews": False, **options},
            count=count,
            recipe=chosen,
            at=None if at is None else start_of(at, datetime.now().astimezone()),
            watched=watch,
            dry_run=dry_run,
            at_once=at_once,
            sheets=contact_sheet,
            key=key,
            address=address,
            as_json=as_json,
        )
        status = work.run()
    if status:
        raise typer.Exit(status)


def told_apart(words: list[str]) -> tuple[list[str], str]:
    """Sources and prompt of ``batch``: the last word is the prompt, unless it names pictures or a manifest."""
    if not words:
        raise InvalidRequest(
            "The pictures are missing.",
            "Name a folder, pictures or a manifest, then the prompt in quotes.",
            field="sources",
        )
    if is_source(words[-1]) or (len(words) == 1 and is_manifest(words[0])):
        return words, ""
    if len(words) == 1:
        raise InvalidRequest(
            f"{words[0]!r} is taken for the prompt: there is no such file or folder.",
            "Name a folder, pictures or a manifest before it.",
            field="sources",
        )
    return words[:-1], words[-1]


def names_of(out: list[str], count: int, quality: int | None, recipe: Recipe | None) -> Names:
    """The names of the results; those without a suffix get the formats of the recipe. Raises InvalidRequest."""
    if not out:
        raise InvalidRequest("The name of the results is missing.", "Name them: -o 'out/{stem}.png'", field="out")
    formats = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
    patterns: list[str] = []
    for pattern in out:
        if recipe is None or not recipe.formats or Path(pattern).suffix:
            patterns.append(pattern)
            continue
        folder = pattern.endswith("/") or Path(pattern).is_dir()
        stem = str(Path(pattern) / "{stem}") if folder else pattern
        patterns += [f"{stem}{formats[each]}" for each in recipe.formats]
    names = Names(patterns, count=count)
    own = quality if quality is not None else recipe.quality if recipe is not None else None
    if own is None or (quality is None and set(names.kinds) == {"png"}):
        return names
    return Names(patterns, count=count, quality=own)

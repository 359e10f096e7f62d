"""``session``: several turns on one picture, from the command line."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from qied_client.aio.job import named
from qied_client.cli import completing
from qied_client.cli.editing import options as o
from qied_client.cli.editing.command import show_saved, show_warnings
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import Saved
from qied_client.cli.editing.words import in_flags
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key, program
from qied_client.cli.progress import EditProgress
from qied_client.cli.sessions.tables import history_table, sessions_table
from qied_client.client import Client, Session
from qied_client.errors import InvalidRequest

Name = Annotated[str, typer.Argument(help="The session's name.", autocompletion=completing.sessions)]

session_app = typer.Typer(help="Edit one picture in turns, with undo and redo.", no_args_is_help=True)


@session_app.command("open")
def open_session(
    picture: Annotated[Path, typer.Argument(help="The first picture: PNG, JPEG or WebP.")],
    name: Annotated[str | None, typer.Option(help="A name of your choice; otherwise one is made.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Open a session on a picture; the same picture and name again is the same session."""
    with failures_as_text():
        with Client(key, address=address) as client, EditProgress() as progress:
            session = client.session(picture, name=name, on_progress=progress)
        _show_place(session, as_json)


@session_app.command("edit")
def edit_session(
    name: Name,
    prompt: Annotated[str, typer.Argument(help="What to change, in words.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg.")],
    base: Annotated[int | None, typer.Option(help="The turn to edit, 0 the first picture; else the latest.")] = None,
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
    priority: o.Priority = 0,
    preemptible: o.Preemptible = False,
    redraw: o.Redraw = None,
    canvas: o.Canvas = None,
    refine: o.Refine = None,
    no_align: o.NoAlign = False,
    compat: o.Compat = None,
    job: Annotated[str | None, typer.Option(help="Job id; the same id again resumes the same turn.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Edit the latest picture, or that of another turn, and save the result."""
    with failures_as_text(in_flags):
        place = Place(out, quality=quality)
        place.check()
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
        with Client(key, address=address) as client, EditProgress() as progress:
            options.update(place.asks(client.welcome.version))
            session = client.take_up_session(name)
            result = session.edit(prompt, base=base, job_id=job, seed=seed, on_progress=progress, **options)
            saved = Saved(out, result)
        try:
            place.save(result, out)
        except InvalidRequest as error:
            again = f"{program()} session result {shlex.quote(name)} {result.turn} -o {shlex.quote(str(out))}"
            raise named(error, result.job, f"Then get the picture: {again}", finished=True) from error
        show_warnings([saved])
        show_saved(Console(highlight=False), [saved], as_json)


@session_app.command()
def undo(name: Name, key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """Go back to the picture that the latest turn edited."""
    with failures_as_text():
        with Client(key, address=address) as client:
            session = client.take_up_session(name)
            session.undo()
        _show_place(session, as_json)


@session_app.command()
def redo(name: Name, key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """Go forward again to a turn that was undone, the newest one if there are several."""
    with failures_as_text():
        with Client(key, address=address) as client:
            session = client.take_up_session(name)
            session.redo()
        _show_place(session, as_json)


@session_app.command("list")
def list_sessions(key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """List your open sessions, the last used one first."""
    with failures_as_text():
        with Client(key, address=address) as client:
            sessions = client.sessions()
        console = Console(highlight=False)
        if as_json:
            _print_json([asdict(session) for session in sessions])
        elif sessions:
            console.print(sessions_table(sessions, datetime.now().astimezone()))
        else:
            console.print("No session is open.")


@session_app.command()
def history(name: Name, key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """Show all turns; > marks the latest picture. Turn 0 is the first picture."""
    with failures_as_text():
        with Client(key, address=address) as client:
            session = client.take_up_session(name)
            turns = session.history()
        if as_json:
            _print_json({"name": session.name, "head": session.head, "turns": [asdict(turn) for turn in turns]})
        else:
            Console(highlight=False).print(history_table(turns, session.head, datetime.now().astimezone()))


@session_app.command()
def result(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file, with the suffix of the picture's format.")],
    turn: Annotated[int | None, typer.Argument(help="Its turn; 0 is the first picture. Default: the latest.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Save the picture of a turn."""
    with failures_as_text(in_flags):
        if not out.parent.is_dir():
            raise InvalidRequest(
                f"{out}: there is no folder {out.parent}.", "Create it first, or choose another.", field="out"
            )
        with Client(key, address=address) as client, EditProgress() as progress:
            found = client.take_up_session(name).result(turn, on_progress=progress)
        found.save(out)
        if as_json:
            facts = asdict(found)
            del facts["bytes"]
            _print_json({"path": str(out), **facts})
            return
        seed = f"  seed {found.seed}" if found.job else ""
        text = Text.assemble((str(out), "bold"), f"  {found.width}x{found.height}  turn {found.turn}{seed}")
        Console(highlight=False).print(text, soft_wrap=True)


@session_app.command()
def close(name: Name, key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """End a session: its pictures may be deleted."""
    with failures_as_text():
        with Client(key, address=address) as client:
            client.take_up_session(name).close()  # taken up first, so that a misspelt name is an error
        if as_json:
            _print_json({"name": name, "closed": True})
        else:
            Console(highlight=False).print(Text(f"{name}: closed"), soft_wrap=True)


def _show_place(session: Session, as_json: bool) -> None:
    if as_json:
        _print_json({"name": session.name, "head": session.head})
        return
    where = f"turn {session.head}" if session.head else "the first picture"
    Console(highlight=False).print(Text(f"{session.name}: at {where}"), soft_wrap=True)


def _print_json(facts: Any) -> None:
    Console(highlight=False).print_json(json.dumps(facts, default=datetime.isoformat))

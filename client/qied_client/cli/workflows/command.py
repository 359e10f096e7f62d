"""``run``: a workflow of ComfyUI carried out by a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.connecting import connected
from qied_client.cli.editing import options as o
from qied_client.cli.editing.command import Drawing, carried_out, show_done
from qied_client.cli.editing.run import Saved
from qied_client.cli.editing.words import in_flags
from qied_client.cli.exit_status import REFUSED
from qied_client.cli.failures import failures_as_text, show_failure
from qied_client.cli.options import Address, AsJson, Key
from qied_client.cli.workflows.explaining import show_examined
from qied_client.cli.workflows.names import places_for
from qied_client.client import Client
from qied_client.errors import InvalidRequest, UnreachableError, VersionMismatch

if TYPE_CHECKING:
    from qied_client.workflows import Examined, Served


def run_workflow(
    workflow: Annotated[
        Path, typer.Argument(help="A workflow's JSON, in ComfyUI's format or its API's; or a picture that carries one.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Output file: .png, .webp or .jpg; {node}, {prefix}, {n} and {seed} may be in its name. Default: "
            "PREFIX_00001_.png, as ComfyUI names it.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NODE.INPUT=VALUE, or INPUT=VALUE where one node has it, such as seed=7; may be repeated."
        ),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of the pictures; default: that of the workflow, and ComfyUI's. May be repeated."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Id of a save node to run; may be repeated.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each node becomes and what differs, and run nothing.")
    ] = False,
    quality: o.Quality = None,
    fit: o.Fit = False,
    priority: o.Priority = 0,
    preemptible: o.Preemptible = False,
    picture: Annotated[
        Drawing, typer.Option(help="Show the pictures in the terminal if it can: auto or never.")
    ] = Drawing.AUTO,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Run a workflow of ComfyUI, and save what its save nodes would."""
    from qied_client.workflows.documents import read_document
    from qied_client.workflows.running import examined  # other commands start sooner without it

    with failures_as_text(in_flags):
        chosen = settings_in(settings or [])
        folders: list[Path] | None = inputs or None
        if explain:
            served = _asked(key, address)
            found = examined(workflow, folders, chosen, served, only or ())
            show_examined(Console(highlight=False), found, as_json)
            if served is None and found.requests:
                Console(stderr=True, highlight=False).print(
                    Text("No daemon was asked, so names of models and LoRAs are not compared.", "yellow"),
                    soft_wrap=True,
                )
            _stop_at(found)
            return
        read_document(workflow)  # what is wrong with the file is said before a daemon is waited for
        with connected(key, address) as client:
            found = examined(workflow, folders, chosen, served_by(client), only or (), client.download)
            _stop_at(found)
            shared: dict[str, Any] = {"on_cap": "fit"} if fit else {}
            shared |= {"priority": priority} if priority else {}
            shared |= {"preemptible": True} if preemptible else {}
            done = _run_all(client, found, out, quality, shared)
        drawing = Drawing.NEVER if as_json else picture
        show_done(done, drawing, as_json, before=None, many=True)


def _run_all(
    client: Client, found: Examined, out: Path | None, quality: int | None, shared: dict[str, Any]
) -> list[Saved]:
    console = Console(stderr=True, highlight=False)
    done: list[Saved] = []
    for node, why in found.passed_over:
        console.print(Text(f"node {node} is passed over: {why}", "dim"), soft_wrap=True)
    for request, place in zip(found.requests, places_for(found.requests, out, quality), strict=True):
        for warning in request.warnings:
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
        options: dict[str, Any] = {**request.options(), **shared}
        seed = options.pop("seed", None)
        done += carried_out(client, place, request.images, request.prompt, options, job=None, seed=seed)
    return done


def settings_in(texts: Sequence[str]) -> dict[str, str]:
    """The settings that ``--set`` names; raises InvalidRequest for one without a value."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidRequest(
                f"--set {text}: it has no value.", "Write NODE.INPUT=VALUE: --set 12.seed=7", field="set"
            )
        found[name.strip()] = value
    return found


def served_by(client: Client) -> Served | None:
    """What a daemon serves; None where it is too old to say."""
    from qied_client.workflows import Served

    try:
        return Served.of(client.describe(), client.loras())
    except VersionMismatch:
        return None


def _asked(key: Path | None, address: str | None) -> Served | None:
    """What the daemon serves, if one answers; a key or an address that is named must lead to one."""
    try:
        with connected(key, address, patience=None if key or address else 1.0) as client:
            return served_by(client)
    except UnreachableError:
        if key is not None or address is not None:
            raise
        return None


def _stop_at(found: Examined) -> None:
    """Tell the problems of a workflow, each with what to do, and end the program; nothing where there are none."""
    for problem in found.problems:
        show_failure(InvalidRequest(problem.message, problem.remedy))
    if found.problems:
        raise typer.Exit(REFUSED)

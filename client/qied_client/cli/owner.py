"""``pause``, ``resume``, ``unload``, ``load`` and ``stop``: what the owner of the daemon's machine may order."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from qied_client.cli.connecting import connected
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, Key
from qied_client.cli.program import DAEMON


def add_owner_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (pause, resume, unload, load, stop):
        app.command(rich_help_panel=DAEMON)(command)


def pause(key: Key = None, address: Address = None) -> None:
    """Start no more edits until 'resume', not even after a restart; running ones go on."""
    _order("pause", key, address, "paused: {running} running, {waiting} waiting")


def resume(key: Key = None, address: Address = None) -> None:
    """Start waiting edits again."""
    _order("resume", key, address, "resumed: {running} running, {waiting} waiting")


def unload(key: Key = None, address: Address = None) -> None:
    """Free the memory of the model; the next edit loads it again."""
    _order("unload", key, address, "unloaded; the next edit loads the model again")


def load(key: Key = None, address: Address = None) -> None:
    """Load the model again after 'unload', before an edit needs it."""
    _order("load", key, address, "loading")


def stop(
    when_done: Annotated[
        bool, typer.Option("--when-done", help="Accept no more edits, finish the queue, then stop.")
    ] = False,
    key: Key = None,
    address: Address = None,
) -> None:
    """Stop the daemon as Ctrl-C does, or let it finish the queue first."""
    if when_done:
        _order("stop_when_done", key, address, "stops when done: {running} running, {waiting} waiting")
    else:
        _order("stop", key, address, "stopping: {running} running, {waiting} waiting")


def _order(action: str, key: Key, address: Address, done: str) -> None:
    with failures_as_text():
        with connected(key, address, patience=3.0) as client:
            answer = client.control(action)
        Console(highlight=False).print(done.format(running=answer.running, waiting=answer.waiting), soft_wrap=True)

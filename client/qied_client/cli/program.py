"""What ``qied-client`` and ``qied`` have in common as programs: ``--version``, completion, and their help."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.main import get_command

DAEMON: Final = "Run the daemon"
MODELS: Final = "Models and this machine"
EDITING: Final = "Edit pictures"
JOBS: Final = "Jobs"
OFFERED: Final = "What edits can use"
ACCESS: Final = "Who has access"
"""Titles under which ``--help`` lists the commands."""


def add_version(app: typer.Typer, name: str, version: str) -> None:
    """Add ``--version`` to a command line."""

    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {version}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(False, "--version", callback=show, is_eager=True, help="Show the version."),
    ) -> None:
        pass


def run(app: typer.Typer) -> None:
    """Run a command line, with shell completion."""
    command = get_command(app)
    _hide_the_type_of_flags(command)
    command()


def _hide_the_type_of_flags(command: Any) -> None:
    """A flag takes no value, so that its type says nothing to the reader of a help text."""
    own_help = command.get_help_option(command.context_class(command))
    for parameter in (*command.params, own_help):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for part in getattr(command, "commands", {}).values():
        _hide_the_type_of_flags(part)

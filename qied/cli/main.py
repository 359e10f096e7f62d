"""Entry point of ``qied``: every command, each in a module of its own that is imported when it is asked for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Final

import typer
from qied_client.cli.program import add_version, run

from qied import __version__


def _serve(app: typer.Typer) -> None:
    from qied.cli.serve import ServeCommand, serve

    app.command(cls=ServeCommand)(serve)


def _pull(app: typer.Typer) -> None:
    from qied.cli.pull import pull

    app.command()(pull)


def _demo(app: typer.Typer) -> None:
    from qied.cli.demo import demo

    app.command()(demo)


def _doctor(app: typer.Typer) -> None:
    from qied.cli.doctor import doctor

    app.command()(doctor)


def _plan(app: typer.Typer) -> None:
    from qied.cli.plan import plan_command

    app.command("plan")(plan_command)


def _probe(app: typer.Typer) -> None:
    from qied.cli.probe import probe

    app.command()(probe)


def _files(app: typer.Typer) -> None:
    from qied.cli.inspect import inspect_command
    from qied.cli.models import models_command

    app.command("inspect")(inspect_command)
    app.command("models")(models_command)


def _client(app: typer.Typer) -> None:
    from qied_client.cli.commands import add_client_commands

    add_client_commands(app)


def _web(app: typer.Typer) -> None:
    from qied_client.cli.web import add_web_commands

    add_web_commands(app)


def _owner(app: typer.Typer) -> None:
    from qied_client.cli.owner import add_owner_commands

    add_owner_commands(app)


def _keys(app: typer.Typer) -> None:
    from qied.cli.keys import keys

    app.add_typer(keys, name="keys")


def _profile(app: typer.Typer) -> None:
    from qied.cli.profiles import profile

    app.add_typer(profile, name="profile")


def _service(app: typer.Typer) -> None:
    from qied.service.command import service

    app.add_typer(service, name="service")


PARTS: Final[tuple[tuple[str, Callable[[typer.Typer], None]], ...]] = (
    ("serve", _serve),
    ("pull", _pull),
    ("demo", _demo),
    ("doctor", _doctor),
    ("plan", _plan),
    ("probe", _probe),
    ("inspect models", _files),
    (
        "edit batch recipes generate redraw upscale jobs result release cancel ps top presets loras upscalers show "
        "login logout run session",
        _client,
    ),
    ("web tokens", _web),
    ("pause resume unload load stop", _owner),
    ("keys", _keys),
    ("profile", _profile),
    ("service", _service),
    ("--version", lambda app: None),
)
"""Commands that are imported together, by their names, and what adds them."""


def command_line(first: str = "") -> typer.Typer:
    """The command line with all commands, or with those that come with the command ``first``.

    All of them take a second to import, which a client's command would wait for.
    """
    app = typer.Typer(
        name="qied",
        help="Qwen-Image-Edit on the GPU that you have: a daemon, its clients and its tools.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    add_version(app, "qied", __version__)
    for add in [add for names, add in PARTS if first in names.split()] or [add for _, add in PARTS]:
        add(app)
    return app


def asked_for() -> str:
    """The first word after the program's name, once it is whole; also where a shell asks what may come next."""
    if "_QIED_COMPLETE" in os.environ:
        line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
        words = line.split()[1:]
        return words[0] if len(words) > 1 else ""
    return sys.argv[1] if len(sys.argv) > 1 else ""


def main() -> None:
    """Run the command line. What the terminal's encoding lacks is written as ``?``: a card's name may hold it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    run(command_line(asked_for()))

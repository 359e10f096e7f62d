"""Entry point of ``qied``: every command, each in a module of its own."""

from __future__ import annotations

import io
import sys

import typer
from qied_client.cli.commands import add_client_commands
from qied_client.cli.owner import add_owner_commands
from qied_client.cli.program import ACCESS, DAEMON, MODELS, add_version, run
from qied_client.cli.web import add_web_commands

from qied import __version__
from qied.cli.demo import demo
from qied.cli.doctor import doctor
from qied.cli.inspect import inspect_command
from qied.cli.keys import keys
from qied.cli.models import models_command
from qied.cli.plan import plan_command
from qied.cli.probe import probe
from qied.cli.profiles import profile
from qied.cli.pull import pull
from qied.cli.serve import ServeCommand, serve
from qied.service.command import service

app = typer.Typer(
    name="qied",
    help="Qwen-Image-Edit on the GPU that you have: a daemon, its clients and its tools.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(cls=ServeCommand, rich_help_panel=DAEMON)(serve)
app.command(rich_help_panel=DAEMON)(demo)
add_owner_commands(app)
app.command(rich_help_panel=MODELS)(doctor)
app.command("models", rich_help_panel=MODELS)(models_command)
app.command(rich_help_panel=MODELS)(pull)
app.command("inspect", rich_help_panel=MODELS)(inspect_command)
app.command("plan", rich_help_panel=MODELS)(plan_command)
app.command(rich_help_panel=MODELS)(probe)
add_client_commands(app)
add_web_commands(app)
app.add_typer(keys, name="keys", rich_help_panel=ACCESS)
app.add_typer(profile, name="profile", rich_help_panel=MODELS)
app.add_typer(service, name="service", rich_help_panel=DAEMON)
add_version(app, "qied", __version__)


def main() -> None:
    """Run the command line. What the terminal's encoding lacks is written as ``?``: a card's name may hold it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    run(app)

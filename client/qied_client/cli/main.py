"""Entry point of ``qied-client``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qied_client.installing import install_extra
from qied_client.version import __version__

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the command line; says what to install where the extra is missing."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit(f"The command line needs more packages: {install_extra('qied-client[cli]')}")
    from qied_client.cli.program import run

    run(command_line())


def command_line() -> typer.Typer:
    """All commands of ``qied-client``; needs the extra."""
    import typer

    from qied_client.cli.commands import add_client_commands
    from qied_client.cli.program import add_version
    from qied_client.cli.web import add_web_commands

    app = typer.Typer(
        name="qied-client",
        help="Edit pictures with a qied daemon.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    add_version(app, "qied-client", __version__)
    add_client_commands(app)
    add_web_commands(app)
    return app

"""Errors as people see them at the command line: what was wrong, what to do, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.exit_status import INTERRUPTED, status_of
from qied_client.errors import QiedError
from qied_client.system_failures import system_failure


@contextmanager
def failures_as_text() -> Iterator[None]:
    """Print a typed error in two lines and exit with its status, 1 by default.

    The last resort for errors of the operating system: places that know more about one give it a type before.
    """
    try:
        yield
    except QiedError as error:
        raise _shown(error) from None
    except BrokenPipeError:  # whoever reads the output has gone; the command line's library ends quietly
        raise
    except OSError as error:
        raise _shown(system_failure(error)) from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise typer.Exit(INTERRUPTED) from None


def _shown(error: QiedError) -> typer.Exit:
    show_failure(error)
    return typer.Exit(status_of(error))


def show_failure(error: QiedError) -> None:
    """Print a typed error on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("error ", "bold red"), (error.code, "dim"), " ", error.message), soft_wrap=True)
    if error.remedy:
        console.print(Text.assemble(("  do    ", "bold green"), error.remedy), soft_wrap=True)

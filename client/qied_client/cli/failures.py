"""Errors as people see them at the command line: what was wrong, what to do, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.exit_status import INTERRUPTED, status_of
from qied_client.cli.options import CLIENT, program
from qied_client.errors import QiedError
from qied_client.system_failures import system_failure


def _unchanged(error: QiedError) -> QiedError:
    return error


@contextmanager
def failures_as_text(reword: Callable[[QiedError], QiedError] = _unchanged) -> Iterator[None]:
    """Print a typed error in two lines, in the words of ``reword``, and exit with its status, 1 by default.

    The last resort for errors of the operating system: places that know more about one give it a type before.
    """
    try:
        yield
    except QiedError as error:
        raise _shown(reword(error)) from None
    except BrokenPipeError:  # whoever reads the output has gone; the command line's library ends quietly
        raise
    except OSError as error:
        raise _shown(system_failure(error)) from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise typer.Exit(INTERRUPTED) from None


def _shown(error: QiedError) -> typer.Exit:
    if error.details.get("absent") is True:
        error.remedy = _without_a_key()
    show_failure(error)
    return typer.Exit(status_of(error))


def _without_a_key() -> str:
    """What to do where there is no key at all: first what a newcomer on this machine does."""
    name = program()
    hand_over = f"ask its owner for a key file ('qied keys add NAME' there), then: {name} login FILE"
    if name == CLIENT:
        return f"For a daemon on another machine, {hand_over}\nOn this machine, start one with: qied serve"
    return f"Start the daemon on this machine: qied serve\nFor one on another machine, {hand_over}"


def show_failure(error: QiedError) -> None:
    """Print a typed error on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("error ", "bold red"), (error.code, "dim"), " ", error.message), soft_wrap=True)
    if error.remedy:
        remedy = error.remedy.replace("\n", "\n        ")
        console.print(Text.assemble(("  do    ", "bold green"), remedy), soft_wrap=True)
    job = str(error.details.get("job") or "")
    if job and job not in str(error):
        console.print(Text.assemble(("  job   ", "bold"), job), soft_wrap=True)

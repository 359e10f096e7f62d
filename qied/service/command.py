"""``qied service``: the units with which systemd runs the daemon."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from qied_client.cli.failures import failures_as_text
from rich.console import Console

from qied.hardware.host import refuse_native_windows
from qied.service.units import ServiceUnit, system_unit, user_unit, write

service = typer.Typer(help="Run the daemon as a service of systemd.", no_args_is_help=True)

System = Annotated[
    bool, typer.Option("--system/--user", help="For the whole machine, as the user qied; default: for your user.")
]


@service.command()
def show(system: System = False) -> None:
    """Print the unit."""
    with failures_as_text():
        typer.echo(_unit(system).text, nl=False)


@service.command()
def install(
    system: System = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a unit that is there and differs.")] = False,
) -> None:
    """Write the unit where systemd looks for it, and say how to start it; nothing is started."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with failures_as_text():
        unit = _unit(system)
        written = write(unit, replace=replace)
    console.print(f"{unit.path} {'is written' if written else 'is there already'}. Next:")
    for step in unit.next_steps:
        console.print(f"  {step}")


def _unit(system: bool) -> ServiceUnit:
    refuse_native_windows()
    return system_unit() if system else user_unit(os.environ)

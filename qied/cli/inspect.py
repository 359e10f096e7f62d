"""``qied inspect``: what weight files and model folders are, from their headers alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from qied_client.cli.exit_status import FAILED
from qied_client.cli.failures import failures_as_text
from rich.console import Console
from rich.progress import track

from qied.checkpoints.inspect import inspect
from qied.checkpoints.report import Report
from qied.cli.machine import usual_config
from qied.cli.model_table import show_reports
from qied.config import load_config


def inspect_command(
    paths: Annotated[list[Path], typer.Argument(help="Weight files (safetensors, GGUF) or model folders.")],
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Identify files: part, layout, precision, model, and problems. Exit status 0, or 1 if there is a problem."""
    with failures_as_text():
        version = load_config(usual_config(config), os.environ, {}).config.model.version
        reports = _inspected(paths, version)
        if as_json:
            typer.echo(json.dumps([report.to_json() for report in reports], indent=2))
        else:
            show_reports(Console(highlight=False), reports)
    if any(report.problems for report in reports):
        raise typer.Exit(FAILED)


def _inspected(paths: list[Path], version: str) -> list[Report]:
    """Reports of all paths, with a bar where there are many: a folder on a slow disk can take a while."""
    console = Console(stderr=True)
    shown = track(paths, "looking", console=console, transient=True, disable=not console.is_terminal or len(paths) < 8)
    return [inspect(path, version) for path in shown]

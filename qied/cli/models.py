"""``qied models``: the models, parts, LoRAs and upscalers on this machine, and their problems."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from qied_client.cli.failures import failures_as_text
from qied_client.cli.made_again import printable
from qied_client.errors import QiedError
from qied_client.system_failures import expanded
from rich.console import Console
from rich.markup import escape

from qied.checkpoints.listing import Listed, listing
from qied.cli.machine import usual_config
from qied.cli.model_table import show_problems, show_reports, shown_name
from qied.config import ModelConfig, load_config
from qied.hardware.probe import probe
from qied.hardware.user_folders import user_home
from qied.planning.edits.upscaling import UpscalerFacts
from qied.serving.model import BUILTIN, locate_model
from qied.upscalers.catalogue import Upscalers
from qied.upscalers.examined import examined


def models_command(
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models in the Hugging Face cache, ComfyUI's folders and the configured ones, and which would be served."""
    with failures_as_text():
        settings = load_config(usual_config(config), os.environ, {}).config.model
        console = Console(stderr=True)
        found: list[Listed] = []
        with console.status("looking") as status:
            for one in _found(settings):
                found.append(one)
                status.update(f"looking: {one.report.path.name}")
        choice = _served(settings)
        if as_json:
            document = {
                "schema": 1,
                "served": choice.served,
                "reason": choice.reason,
                "told": choice.told,
                "warnings": list(choice.warnings),
                "models": [{"place": one.place, **one.report.to_json()} for one in found],
                "upscalers": [
                    {"name": name, "path": path, "scale": facts.scale, "architecture": facts.architecture}
                    for name, path, facts in _usable(choice.upscalers)
                ],
                "unusable_upscalers": dict(choice.upscalers.problems),
            }
            typer.echo(json.dumps(document, indent=2))
            return
        _show(Console(highlight=False), found, choice)


def _found(settings: ModelConfig) -> Iterator[Listed]:
    named = [settings.path, settings.text_encoder, settings.vae]
    paths = [expanded(Path(path)).absolute() for path in named if path and path != BUILTIN]
    loras = [expanded(Path(folder)).absolute() for folder in settings.loras]
    return listing(os.environ, user_home(), loras, paths, settings.version)


@dataclass(frozen=True)
class _Choice:
    """The model that `qied serve` would use, or the ``reason`` why there is none, and what is probably wrong with it.

    ``told`` is which model it is, and what shows that.
    """

    served: str | None = None
    reason: str | None = None
    told: str | None = None
    warnings: tuple[str, ...] = ()
    upscalers: Upscalers = field(default_factory=Upscalers)


def _usable(upscalers: Upscalers) -> Iterator[tuple[str, str, UpscalerFacts]]:
    for name, path in sorted(upscalers.files.items()):
        yield name, path, upscalers.facts[name]


def _served(settings: ModelConfig) -> _Choice:
    try:
        model = locate_model(settings, os.environ, user_home())
        model.check_weights()
    except QiedError as problem:
        return _Choice(reason=f"{problem.message}\n{problem.remedy}".rstrip())
    upscalers = examined(model.upscalers, probe(os.environ), os.environ, only_cached=True)
    return _Choice(str(model.origin), None, model.told, model.warnings, upscalers)


def _show(console: Console, found: list[Listed], choice: _Choice) -> None:
    for place in dict.fromkeys(one.place for one in found):
        own = [one.report for one in found if one.place == place]
        parents = sorted({str(report.path.parent) for report in own})
        more = f" and {len(parents) - 1} more" * (len(parents) > 1)
        console.print(f"[bold]{escape(place)}[/]  [dim]{shown_name(parents[0])}{more}[/]")
        show_reports(console, own)
        console.print()
    _show_upscalers(console, choice.upscalers)
    if choice.served is not None:
        console.print(f"'qied serve' uses {printable(choice.served)}\nas {choice.told}", markup=False, soft_wrap=True)
    else:
        console.print(printable(choice.reason or ""), markup=False, soft_wrap=True)
    for warning in choice.warnings:
        console.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)


def _show_upscalers(console: Console, upscalers: Upscalers) -> None:
    if not (upscalers.files or upscalers.problems):
        return
    console.print("[bold]upscalers[/]")
    for name, _, facts in _usable(upscalers):
        console.print(f"[green]✓[/]\N{NO-BREAK SPACE}{escape(name)}  {facts.scale}x, {escape(facts.architecture)}")
    for path, problem in upscalers.problems.items():
        show_problems(console, Path(path).name, [problem])
    console.print()

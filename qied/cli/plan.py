"""``qied plan``: what would be served here, or on the machine of a recorded snapshot, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from qied_client.cli.exit_status import REFUSED
from qied_client.cli.failures import failures_as_text
from qied_client.errors import InvalidRequest
from qied_client.protocol import limits
from rich.console import Console

from qied.cli.machine import read_machine, usual_config
from qied.cli.plan_view import show_plan, show_refusal
from qied.cli.profiles import user_profiles_folder
from qied.config import ModelConfig, load_config
from qied.hardware.user_folders import user_home
from qied.planning.choosing.planned_upscalers import PlannedUpscaler, planned_upscalers
from qied.planning.edits.geometry import MAX_ASPECT, within_aspect
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import all_hardware_profiles
from qied.planning.profiles.model_profile import DEFAULT_MODEL, shipped_profiles
from qied.planning.requests.quote import Answer, ask
from qied.planning.wishes import Wishes, wishes_of
from qied.serving.model import ServedModel, locate_model, without_files
from qied.serving.plan import plan_for
from qied.sizes import read_size
from qied.upscalers.examined import examined

_SMALLEST_VRAM = 256 * 2**20


def plan_command(
    snapshot: Annotated[Path | None, typer.Option(help="Plan for the machine in this 'qied probe' file.")] = None,
    model: Annotated[str | None, typer.Option(help="Profile name, model folder or file, or 'builtin'.")] = None,
    vram: Annotated[str | None, typer.Option(help="Most card memory to use, such as 12GB or 8GiB.")] = None,
    gpu: Annotated[int | None, typer.Option(help="Index of the card; default: the best one.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of a request to check, in pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Its height, in pixels.")] = None,
    images: Annotated[
        int | None, typer.Option(min=0, help="Number of its pictures; default: 1 if it takes any.")
    ] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help="With guidance: two forwards per step.")] = False,
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what would be served, why, and how much memory it takes. Exit status 0, or 2 if nothing can be served."""
    with failures_as_text():
        loaded = load_config(usual_config(config), os.environ, {})
        _check_sides(width, height)
        wishes = _with_options(wishes_of(loaded), vram, gpu)
        served = _served(model or loaded.config.model.path, loaded.config.model)
        profile = served.profile
        geometry = profile.geometry
        images = geometry.least_references if images is None else images
        if not geometry.least_references <= images <= geometry.max_references:
            raise InvalidRequest(
                f"--images: {profile.title} takes {geometry.references_in_words}.", "Correct the number."
            )
        profiles = all_hardware_profiles(user_profiles_folder())
        machine = read_machine(snapshot)
        if snapshot is None:
            known = examined(served.upscalers, machine, os.environ, only_cached=True)
            served = replace(served, upscalers=known)
        outcome = plan_for(machine, served, loaded.config, wishes, profiles)
        answer = None
        if isinstance(outcome, Plan) and width is not None and height is not None:
            answer = ask(outcome, profile, width=width, height=height, images=images, guided=cfg)
        _print(outcome, answer, _upscalers(outcome, served), as_json)
    if isinstance(outcome, Refusal):
        raise typer.Exit(REFUSED)


def _check_sides(width: int | None, height: int | None) -> None:
    """Refuse what the daemon would refuse: see EditRequest."""
    if (width is None) != (height is None):
        raise InvalidRequest("Only one of --width and --height is given.", "Give both.")
    for name, side in (("--width", width), ("--height", height)):
        if side is not None and not 1 <= side <= limits.SIDE_PX:
            raise InvalidRequest(f"{name}: {side} is not 1 to {limits.SIDE_PX} pixels.", "Correct it.")
    if width is not None and height is not None and not within_aspect(width, height):
        raise InvalidRequest(f"{width} x {height} is more than {MAX_ASPECT} times as long as wide.", "Correct it.")


def _with_options(wishes: Wishes, vram: str | None, gpu: int | None) -> Wishes:
    if vram is not None:
        origins = {**wishes.origins, "budget_bytes": "command line (--vram)"}
        size = _size(vram)
        if size < _SMALLEST_VRAM:
            raise InvalidRequest(f"--vram: {vram} is only {size} bytes.", "Name a unit, such as 12GB or 11.5GiB.")
        wishes = replace(wishes, budget_bytes=size, origins=origins)
    return wishes if gpu is None else replace(wishes, gpu=gpu)


def _size(text: str) -> int:
    try:
        return read_size(text)
    except ValueError as error:
        raise InvalidRequest(f"--vram: {error}.", "Correct it.") from None


def _served(model: str, settings: ModelConfig) -> ServedModel:
    """A model by its profile's name, or by its folder or file; the real one where nothing is configured."""
    shipped = shipped_profiles()
    if model in shipped:
        return without_files(shipped[model], model, settings)
    if not model and not settings.profile:
        return without_files(shipped[DEFAULT_MODEL], DEFAULT_MODEL, settings)
    return locate_model(settings.model_copy(update={"path": model}), os.environ, user_home())


def _upscalers(outcome: Plan | Refusal, served: ServedModel) -> list[PlannedUpscaler]:
    if isinstance(outcome, Refusal):
        return []
    precisions = {name: file.precision for name, file in served.upscalers.on(outcome.gpu).items()}
    return planned_upscalers(outcome, served.profile, served.upscalers.facts, precisions)


def _print(outcome: Plan | Refusal, answer: Answer | None, upscalers: Sequence[PlannedUpscaler], as_json: bool) -> None:
    if as_json:
        document = outcome.to_json()
        if upscalers:
            document["upscalers"] = [each.to_json() for each in upscalers]
        if answer is not None:
            document["request"] = answer.to_json()
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console(highlight=False, markup=False)
    if isinstance(outcome, Refusal):
        show_refusal(console, outcome)
    else:
        show_plan(console, outcome, answer, upscalers)

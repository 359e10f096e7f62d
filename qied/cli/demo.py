"""``qied demo``: one edit of the built-in model through the whole path, in a temporary daemon."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from qied_client import Client, Result, __version__
from qied_client.cli.drawing import can_draw, show_pictures
from qied_client.cli.failures import failures_as_text
from qied_client.cli.progress import EditProgress
from qied_client.credentials import LOCAL_FILE
from qied_client.protocol.messages import Quoted
from qied_client.results import Progress
from rich.console import Console

from qied.builtin.scene import Scene, read_scene
from qied.cli.machine import read_machine
from qied.config import Config
from qied.hardware.host import refuse_native_windows
from qied.hardware.user_folders import user_home
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import all_hardware_profiles
from qied.planning.wishes import Wishes
from qied.private_daemon import private_daemon
from qied.serving.model import BUILTIN, locate_model
from qied.serving.plan import plan_for

_START_S = 180.0


def demo(
    out: Annotated[Path, typer.Option(help="Output folder for before.png, after.png and report.json.")] = Path(
        "demo-out"
    ),
) -> None:
    """Edit a bundled picture with the built-in model: no GPU, no weights, no configuration."""
    with failures_as_text():
        refuse_native_windows()
        scene = read_scene()
        picture = scene.path.read_bytes()
        started = time.perf_counter()
        out.mkdir(parents=True, exist_ok=True)
        progress = EditProgress()
        with progress:
            progress(Progress("phase", phase="starting the daemon"))
            environ = {key: value for key, value in os.environ.items() if not key.startswith("QIED_")}
            # An empty file in place of a qied.toml that may lie here: the demo needs no configuration.
            arguments = ["--model", "builtin", "--config", os.devnull]
            with private_daemon(arguments, environ, _START_S, [], own_profiles=True) as daemon:
                ready = time.perf_counter()
                quote, result, edit_s = _edit(daemon.home, scene, picture, progress)
        (out / "before.png").write_bytes(picture)
        result.save(out / "after.png")
        seconds = {"start_s": ready - started, "edit_s": edit_s, "all_s": time.perf_counter() - started}
        report = _report(scene, quote, result, seconds)
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        _show(out, picture, result, scene, seconds)


def _edit(home: Path, scene: Scene, picture: bytes, progress: EditProgress) -> tuple[Quoted, Result, float]:
    with Client(home / LOCAL_FILE) as client:
        quote = client.quote(picture, scene.prompt, seed=scene.seed)
        started = time.perf_counter()
        result = client.edit(picture, scene.prompt, seed=scene.seed, on_progress=progress)
        return quote, result, time.perf_counter() - started


def _plan() -> Plan | Refusal:
    """What the planner says of this machine and the built-in model, as the daemon did."""
    config = Config.model_validate({"model": {"path": BUILTIN}})
    served = locate_model(config.model, os.environ, user_home())
    return plan_for(read_machine(None), served, config, Wishes(), all_hardware_profiles(None))


def _report(scene: Scene, quote: Quoted, result: Result, seconds: dict[str, float]) -> dict[str, Any]:
    """What was asked, what was planned, and what it took."""
    return {
        "schema": 1,
        "qied": __version__,
        "prompt": scene.prompt,
        "seed": result.seed,
        "plan": _plan().to_json(),
        "quote": {key: value for key, value in asdict(quote).items() if key != "re"},
        "timings_ms": result.timings,
        **{name: round(value, 3) for name, value in seconds.items()},
    }


def _show(out: Path, before: bytes, result: Result, scene: Scene, seconds: dict[str, float]) -> None:
    console = Console(highlight=False)
    if can_draw(console):
        show_pictures(console, [("before", before), ("after", result.bytes)])
    console.print(f"[bold]{scene.prompt}[/]: {seconds['edit_s']:.1f} s after a start of {seconds['start_s']:.1f} s")
    console.print(f"{out / 'before.png'}  {out / 'after.png'}  {out / 'report.json'}")

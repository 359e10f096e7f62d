"""``qied demo``: one edit of the built-in model through the whole path, in a daemon that lives for as long."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import tomli
import typer
from qied_client import Client, Result, __version__
from qied_client.cli.failures import failures_as_text
from qied_client.cli.progress import EditProgress
from qied_client.credentials import LOCAL_FILE
from qied_client.errors import SetupError
from qied_client.protocol.messages import Quoted
from qied_client.results import Progress
from rich.console import Console

from qied.cli.pair import show_pair

_START_S = 180.0


@dataclass(frozen=True)
class _Scene:
    picture: bytes
    prompt: str
    seed: int


def demo(
    out: Annotated[Path, typer.Option(help="Folder for before.png, after.png and report.json.")] = Path("demo-out"),
) -> None:
    """Edit a bundled picture with the built-in model: no GPU, no weights, no configuration."""
    with failures_as_text():
        scene = _scene()
        started = time.perf_counter()
        out.mkdir(parents=True, exist_ok=True)
        progress = EditProgress()
        with progress, tempfile.TemporaryDirectory(prefix="qied-demo-") as home:
            progress(Progress("phase", phase="starting the daemon"))
            with _daemon(Path(home)):
                ready = time.perf_counter()
                plan, result, edit_s = _edit(Path(home), scene, progress)
        (out / "before.png").write_bytes(scene.picture)
        result.save(out / "after.png")
        seconds = {"start_s": ready - started, "edit_s": edit_s, "all_s": time.perf_counter() - started}
        report = _report(scene, plan, result, seconds)
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        _show(out, scene.picture, result, scene, seconds)


def _edit(home: Path, scene: _Scene, progress: EditProgress) -> tuple[Quoted, Result, float]:
    with Client(home / LOCAL_FILE) as client:
        plan = client.quote(scene.picture, scene.prompt, seed=scene.seed)
        started = time.perf_counter()
        result = client.edit(scene.picture, scene.prompt, seed=scene.seed, on_progress=progress)
        return plan, result, time.perf_counter() - started


def _scene() -> _Scene:
    folder = importlib.resources.files("qied.builtin")
    facts = tomli.loads((folder / "demo.toml").read_text(encoding="utf-8"))
    return _Scene((folder / facts["picture"]).read_bytes(), facts["prompt"], facts["seed"])


@contextmanager
def _daemon(home: Path) -> Iterator[list[str]]:
    """A daemon with a state folder and a port of its own, ready for work; gives its log, and stops it at the end."""
    command = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--listen", "tcp://127.0.0.1:*"]
    process = subprocess.Popen(
        [*command, "--home", str(home), "--log-format", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("QIED_")},
        cwd=home,
        text=True,
        encoding="utf-8",
    )
    assert process.stderr is not None
    ready = threading.Event()
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stderr, lines, ready), daemon=True)
    reader.start()
    try:
        if not ready.wait(_START_S) or not _says_ready(lines):
            raise SetupError(f"The daemon did not start. It said: {' '.join(lines[-3:])[:600]}", "Report this.")
        yield lines
    finally:
        process.terminate()
        process.wait(timeout=60)
        reader.join()


def _read(log: IO[str], lines: list[str], ready: threading.Event) -> None:
    """Keep the daemon's log; ``ready`` is set once it can be used, or has ended."""
    with log:
        for line in log:
            lines.append(line)
            if _says_ready([line]):
                ready.set()
    ready.set()


def _says_ready(lines: list[str]) -> bool:
    return any('"event": "ready"' in line for line in lines)


def _report(scene: _Scene, plan: Quoted, result: Result, seconds: dict[str, float]) -> dict[str, Any]:
    """What was asked, what was planned, and what it took."""
    return {
        "schema": 1,
        "qied": __version__,
        "prompt": scene.prompt,
        "seed": result.seed,
        "plan": {key: value for key, value in asdict(plan).items() if key != "re"},
        "timings_ms": result.timings,
        **{name: round(value, 3) for name, value in seconds.items()},
    }


def _show(out: Path, before: bytes, result: Result, scene: _Scene, seconds: dict[str, float]) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        show_pair(console, before, result.bytes)
    console.print(f"[bold]{scene.prompt}[/]: {seconds['edit_s']:.1f} s after a start of {seconds['start_s']:.1f} s")
    console.print(f"{out / 'before.png'}  {out / 'after.png'}  {out / 'report.json'}")

"""A real daemon whose worker runs a watched engine, and edits that are made through a client."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from part_runs.card import card_used
from PIL import Image
from qied_client import Client
from qied_client.results import Result
from wire_bench.daemon import Daemon

from qied.checkpoints.pipeline_folder import CONFIGS, STEMS
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder, model_configuration, profiles_folder
from serve_bench.setting import PREVIEW_PRESET, Request, Setting
from serve_bench.watch import REPORT

REAL = "qwen-image-edit-2511"
LEFT_BYTES = 32 << 20
"""A card on which no more is in use than before counts as free: the driver's own memory varies."""
_PATIENCE_S = 60.0
_PRESET = f"""
[presets.{PREVIEW_PRESET}]
steps = 4
true_cfg_scale = 1.0
schedule = "lightning"
description = "what the Lightning LoRA does once it is merged into the transformer"
"""


@dataclass(frozen=True)
class Made:
    """One edit: milliseconds from the request to the picture's bytes, the result, and the worker's line on it."""

    milliseconds: float
    result: Result
    line: dict[str, Any]

    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds of each phase on the device."""
        found: dict[str, float] = {}
        for phase, spent in self.line["units"]:
            found[phase] = round(found.get(phase, 0.0) + spent, 3)
        return found

    @property
    def steps(self) -> list[float]:
        """Milliseconds of each step."""
        return [spent for phase, spent in self.line["units"] if phase == "denoise"]


class Served:
    """A daemon that is ready, and what its worker has told."""

    def __init__(self, daemon: Daemon, client: Client, report: Path, before: int | None) -> None:
        self._daemon = daemon
        self._before = before
        self._client = client
        self._report = report
        self._number = 0
        self.planned = daemon.planned

    @property
    def loaded(self) -> dict[str, Any]:
        """The worker's first line: the plan that it carries out, and its weights."""
        return self._lines()[0]

    def held_bytes(self) -> int:
        """Bytes of the card in use since the daemon began; without a card, resident bytes of its worker processes."""
        if self._before is not None:
            return max(0, card_used() - self._before)
        return sum(map(_worker_bytes, self._daemon.front.children()))

    def unload(self) -> float:
        """Unload the model; returns the milliseconds until its memory was free, at most ``_PATIENCE_S`` of them."""
        asked = time.perf_counter()
        self._client.control("unload")
        while self.held_bytes() > LEFT_BYTES and time.perf_counter() - asked < _PATIENCE_S:
            time.sleep(0.02)
        return (time.perf_counter() - asked) * 1000

    def edit(self, request: Request) -> Made:
        """Make an edit of a picture and with a prompt that nobody has seen before."""
        self._number += 1
        picture = _picture(request.side, self._number)
        options: dict[str, Any] = {"negative_prompt": " "} if request.cfg > 1 else {}
        if request.preset is not None:
            options["preset"] = request.preset
        started = time.perf_counter()
        result = self._client.edit(
            picture,
            f"make the sky darker and the red circle blue, number {self._number}",
            seed=self._number,
            steps=request.steps,
            true_cfg_scale=request.cfg,
            width=request.side,
            height=request.side,
            previews=False,
            **options,
        )
        milliseconds = (time.perf_counter() - started) * 1000
        return Made(milliseconds, result, self._lines()[-1])

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._report.read_text(encoding="utf-8").splitlines()]


def _worker_bytes(child: psutil.Process) -> int:
    """Resident bytes of a process that is a worker; 0 for another one, or one that ends just now."""
    try:
        return int(child.memory_info().rss) if "qied.worker" in child.cmdline() else 0
    except psutil.Error:
        return 0


@contextmanager
def served(setting: Setting, budget_bytes: int | None = None, reference_pixels: int | None = None) -> Iterator[Served]:
    """A daemon of the setting's model within a budget; ``reference_pixels`` caps references where the plan does not."""
    with tempfile.TemporaryDirectory(prefix="qied-serve-") as temporary:
        folder = Path(temporary)
        report = folder / "report.jsonl"
        settings = {
            REPORT: str(report),
            "QIED_MODEL_PRECISION": setting.precision,
            "QIED_WORKER_MAX_ACTIVE": "1",
            "QIED_STORAGE_PACKED_BYTES": "0",
        }
        if budget_bytes is not None:
            settings["QIED_WORKER_BUDGET_BYTES"] = str(budget_bytes)
        if reference_pixels is not None:
            settings["QIED_LIMITS_REFERENCE_PIXELS"] = str(reference_pixels)
        model, engine = "builtin", "serve_bench.engine:load"
        if setting.model == "full-size":
            model, engine = str(model_folder(folder / "model")), "serve_bench.engine:load_random"
            settings["QIED_MODEL_PROFILE"] = str(profile_file(folder))
        else:
            settings["QIED_MODEL_DEVICE"] = "cpu"
        before = card_used() if setting.model == "full-size" else None
        with Daemon(folder / "home", engine, model, settings) as daemon, Client(daemon.key) as client:
            yield Served(daemon, client, report, before)


def model_folder(folder: Path) -> Path:
    """A pipeline folder with the model's own configurations and empty files in the place of its weights."""
    configurations = model_configuration(REAL)
    assert configurations is not None
    shutil.copytree(configurations, folder)
    for part, stem in STEMS.items():
        (folder / part / f"{stem}.safetensors").touch()
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / CONFIGS["tokenizer"]).touch()
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": shipped_profiles()[REAL].pipeline}), encoding="utf-8"
    )
    return folder


def profile_file(folder: Path) -> Path:
    """The model's profile with the preset of the preview."""
    shipped = (profiles_folder() / "models" / f"{REAL}.toml").read_text(encoding="utf-8")
    path = folder / "profile.toml"
    path.write_text(shipped + _PRESET, encoding="utf-8")
    return path


def _picture(side: int, number: int) -> bytes:
    """The demo picture at this size with one pixel changed, as a PNG file."""
    picture = Image.open(builtin_model_folder().parent / "demo.png").convert("RGB").resize((side, side))
    picture.putpixel((0, 0), (number % 256, number // 256, 0))
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()

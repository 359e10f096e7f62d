"""The engine of a worker, watched: it runs in the daemon's worker and writes down what each edit took there.

A worker loads it by its name in the launch order, as it loads the engine of the product.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from memory_bench.full_size import sources
from part_runs.card import card_used

from qied.edit import EditSpec
from qied.engine import serving
from qied.engine.engine import Engine, EngineOptions
from qied.link.engine_port import Picture, RunningEdit
from qied.link.launch import LaunchOrder
from qied.planning.edits.view import View
from qied.planning.profiles.model_profile import load_profile
from qied.progress import OnProgress
from serve_bench.watch import REPORT, Watch, write_line


class WatchedEdit:
    """An edit whose units are timed, and whose peak of memory is read when it is done."""

    def __init__(self, edit: RunningEdit, watch: Watch) -> None:
        self._edit = edit
        self._watch = watch
        self._begun = False

    def advance(self) -> Any:
        """Do one unit of work."""
        if not self._begun:
            self._begun = True
            self._watch.begin()
        unit = self._edit.advance()
        self._watch.unit(unit.phase)
        if unit.image is not None:
            self._watch.end()
        return unit


class WatchedEngine:
    """An engine whose edits are watched; each goes alone."""

    sweep_room = None

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self._engine = engine
        self._watch = watch
        self.device = engine.device
        self.precision = engine.precision
        self.model = engine.model
        self.budget_bytes = engine.budget_bytes
        self.weights_bytes = engine.weights_bytes

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        """All that an edit needs of a picture."""
        return self._engine.views(spec, blob, size)

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> WatchedEdit:
        """Begin an edit."""
        return WatchedEdit(self._engine.begin(spec, pictures, scope), self._watch)

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""
        self._engine.forget(scope)

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of the device that this process has, and that are free."""
        return self._engine.device_memory()


def load(order: LaunchOrder, on_progress: OnProgress) -> WatchedEngine:
    """Load the files of the order."""
    return _watched(order, lambda: serving.load(order, on_progress))


def load_random(order: LaunchOrder, on_progress: OnProgress) -> WatchedEngine:
    """Build the full-size model of the order's plan from random weights, whatever its files are."""
    return _watched(order, lambda: random_engine(order, on_progress))


def _watched(order: LaunchOrder, engine: Callable[[], Engine]) -> WatchedEngine:
    report = Path(os.environ[REPORT])
    on_card = order.execution.device == "cuda"
    before = card_used() if on_card else 0
    loaded = engine()
    write_line(
        report,
        {
            "execution": asdict(order.execution),
            "budget_bytes": order.budget_bytes,
            "fixed_bytes": order.fixed_bytes,
            "weights_bytes": loaded.weights_bytes,
        },
    )
    return WatchedEngine(loaded, Watch(report, before if on_card else None))


def random_engine(order: LaunchOrder, on_progress: OnProgress) -> Engine:
    """The full-size model of the order's plan from random weights; its LoRAs and upscalers are the order's files."""
    profile = load_profile(Path(order.profile))
    # A process that sees its card alone sees it as the first one.
    execution = replace(order.execution, device_index=0) if order.card else order.execution
    streamed = execution.text_encoder == "streamed"
    weights, _ = sources(torch.device(execution.device), keep_text_encoder=streamed)
    options = EngineOptions(
        execution=execution,
        loras=order.loras,
        lora_bytes=order.lora_bytes,
        upscalers=order.upscalers,
        scene_cache_bytes=order.cache_bytes,
        budget_bytes=order.budget_bytes,
        fixed_bytes=order.fixed_bytes,
    )
    return Engine.build(weights, profile, options, on_progress)

"""The three parts of the benchmark: many clients under load, one upload, one edit. Each returns figures as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import Any

from wire_bench.bare_engine import serve_bare_engine
from wire_bench.child import child
from wire_bench.daemon import IDLE_ENGINE, MODEL_ENGINE, Daemon, MemoryWatch
from wire_bench.edits import STAGES, Editor
from wire_bench.light_clients import Samples, Window, serve_light_clients
from wire_bench.machine import Neighbours
from wire_bench.plan import MB, Plan
from wire_bench.spread import Figure, Spread, quantile
from wire_bench.uploaders import Uploaded, Uploads, serve_uploaders

Figures = dict[str, Any]
Tick = Callable[[], None]
"""Called after each round."""


def measure_load(plan: Plan, home: Path, tick: Tick) -> Figures:
    """Heartbeats, SUBMITs and the front's memory with many clients, without and with large uploads beside them."""
    window = Window(plan.seconds, plan.ping_s, plan.submit_s)
    with (
        Daemon(home, IDLE_ENGINE) as daemon,
        child(serve_light_clients, daemon.key, plan.clients) as clients,
        child(serve_uploaders, daemon.key, plan.uploaders, plan.picture_bytes) as uploaders,
    ):
        return {
            "clients": plan.clients,
            "uploaders": plan.uploaders,
            "picture_bytes": plan.picture_bytes,
            "front_rss_idle_bytes": daemon.front.memory_info().rss,
            "quiet": _load_rounds(plan, daemon, clients, window, None, tick),
            "loaded": _load_rounds(plan, daemon, clients, window, uploaders, tick),
        }


def _load_rounds(
    plan: Plan, daemon: Daemon, clients: Connection, window: Window, uploaders: Connection | None, tick: Tick
) -> Figures:
    rounds: list[Figures] = []
    for _ in range(plan.rounds):
        neighbours, before = Neighbours(), sum(daemon.front.cpu_times()[:2])
        with MemoryWatch(daemon.front) as memory:
            if uploaders is not None:
                uploaders.send(Uploads(seconds=window.seconds))
            clients.send(window)
            samples: Samples = clients.recv()
            uploads: list[Uploaded] = [] if uploaders is None else uploaders.recv()
        elapsed = max(window.seconds, max((upload.wire_s for upload in uploads), default=0.0))
        rounds.append(
            {
                "heartbeat_ms": asdict(Spread.of(samples.heartbeats)),
                "submit_ms": asdict(Spread.of(samples.submits)),
                "uploaded_mb_s": round(len(uploads) * plan.picture_bytes / MB / elapsed, 1),
                "front_cores": round((sum(daemon.front.cpu_times()[:2]) - before) / elapsed, 2),
                "front_rss_peak_bytes": memory.peak,
                "other_cores": neighbours.cores(),
            }
        )
        tick()
    return {
        "heartbeat_p50_ms": _figure(row["heartbeat_ms"]["p50"] for row in rounds),
        "heartbeat_p99_ms": _figure(row["heartbeat_ms"]["p99"] for row in rounds),
        "submit_p50_ms": _figure(row["submit_ms"]["p50"] for row in rounds),
        "submit_p99_ms": _figure(row["submit_ms"]["p99"] for row in rounds),
        "front_rss_peak_bytes": max(row["front_rss_peak_bytes"] for row in rounds),
        "rounds": rounds,
    }


def measure_upload(plan: Plan, home: Path, tick: Tick) -> Figures:
    """One client that uploads one picture at a time, each one new."""
    rounds: list[Figures] = []
    with (
        Daemon(home, IDLE_ENGINE) as daemon,
        child(serve_uploaders, daemon.key, 1, plan.picture_bytes) as uploader,
    ):
        for _ in range(plan.rounds):
            neighbours = Neighbours()
            uploader.send(Uploads(count=plan.uploads))
            uploads: list[Uploaded] = uploader.recv()
            wire = quantile([upload.wire_s for upload in uploads], 0.5)
            whole = quantile([upload.hash_s + upload.wire_s for upload in uploads], 0.5)
            rounds.append(
                {
                    "put_to_stored_ms": [round(upload.wire_s * 1000, 1) for upload in uploads],
                    "hash_ms": [round(upload.hash_s * 1000, 1) for upload in uploads],
                    "mb_s": round(plan.picture_bytes / MB / wire, 1),
                    "with_hash_mb_s": round(plan.picture_bytes / MB / whole, 1),
                    "other_cores": neighbours.cores(),
                }
            )
            tick()
    return {
        "picture_bytes": plan.picture_bytes,
        "mb_s": _figure(row["mb_s"] for row in rounds),
        "with_hash_mb_s": _figure(row["with_hash_mb_s"] for row in rounds),
        "rounds": rounds,
    }


def measure_edit(plan: Plan, home: Path, tick: Tick) -> Figures:
    """The daemon's overhead over its engine for one edit of the built-in model, with previews and without."""
    with Daemon(home, MODEL_ENGINE) as daemon, child(serve_bare_engine) as bare:
        return {
            "previews": _edit_rounds(plan, Editor(daemon.key, bare, plan.steps, True), tick),
            "no_previews": _edit_rounds(plan, Editor(daemon.key, bare, plan.steps, False), tick),
        }


def _edit_rounds(plan: Plan, editor: Editor, tick: Tick) -> Figures:
    editor.rounds(plan.warm_up)
    rounds: list[Figures] = []
    for _ in range(plan.rounds):
        neighbours = Neighbours()
        edits, stages = editor.rounds(plan.edits), editor.stages(plan.edits)
        rounds.append(
            {
                "daemon_ms": _median(edit.daemon for edit in edits),
                "engine_ms": _median(edit.engine for edit in edits),
                "bare_ms": _median(edit.bare for edit in edits),
                "overhead_ms": _median(edit.overhead for edit in edits),
                "over_bare_ms": _median(edit.daemon - edit.bare for edit in edits),
                "same_pixels": all(edit.same_pixels for edit in edits),
                "stages_ms": {name: _median(getattr(stage, name) for stage in stages) for name in STAGES},
                "other_cores": neighbours.cores(),
            }
        )
        tick()
    names = ("daemon_ms", "engine_ms", "bare_ms", "overhead_ms", "over_bare_ms")
    return {
        **{name: _figure(row[name] for row in rounds) for name in names},
        "stages_ms": {name: round(fmean(row["stages_ms"][name] for row in rounds), 2) for name in STAGES},
        "same_pixels": all(row["same_pixels"] for row in rounds),
        "rounds": rounds,
    }


def _median(samples: Any) -> float:
    return round(quantile(list(samples), 0.5), 3)


def _figure(rounds: Any) -> Figures:
    values: Sequence[float] = list(rounds)
    return asdict(Figure.of(values))

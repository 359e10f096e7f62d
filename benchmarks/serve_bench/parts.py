"""The parts: a whole edit within a budget beside the same one with everything resident, and the four-step preview."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from part_runs.part import Recorder

from serve_bench.served import Made, Served, served
from serve_bench.setting import EIGHT, SIX, Setting, Within

ENGINE_PHASES = ("encode_prompt", "encode_image", "prepare_steps", "denoise", "decode")


def eight(setting: Setting, record: Recorder) -> None:
    """The edit in 8 GB."""
    _within(setting, record, setting.within[EIGHT])


def six(setting: Setting, record: Recorder) -> None:
    """The edit in 6 GB."""
    _within(setting, record, setting.within[SIX])


def preview(setting: Setting, record: Recorder) -> None:
    """Edits of four steps on a warm worker, each of a new picture and with a new prompt."""
    with served(setting) as daemon:
        record.put("plan", value=_plan(daemon))
        record.put("first", value=_edit(daemon.edit(setting.preview)))
        made = [daemon.edit(setting.preview) for _ in range(setting.previews)]
    record.put("edits", value=[_edit(one) for one in made])
    record.put("ms", value=round(median(one.milliseconds for one in made), 1))
    record.put("breakdown", value=breakdown([_edit(one) for one in made]))


def unload(setting: Setting, record: Recorder) -> None:
    """An edit, the model unloaded, and an edit that brings it back, beside the time of the daemon's own start."""
    began = time.perf_counter()
    with served(setting) as daemon:
        record.put("start_ms", value=round((time.perf_counter() - began) * 1000, 1))
        record.put("plan", value=_plan(daemon))
        record.put("first", value=_edit(daemon.edit(setting.preview)))
        record.put("warm", value=_edit(daemon.edit(setting.preview)))
        record.put("held_bytes", value=daemon.held_bytes())
        record.put("freed_ms", value=round(daemon.unload(), 1))
        record.put("left_bytes", value=daemon.held_bytes())
        record.put("back", value=_edit(daemon.edit(setting.preview)))


def breakdown(edits: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds of each phase of an edit, the picture's file, and everything else; medians over ``edits``."""
    found = {phase: median(edit["phases"].get(phase, 0.0) for edit in edits) for phase in ENGINE_PHASES}
    found["png"] = median(edit["png_ms"] for edit in edits)
    rests = (edit["ms"] - edit["png_ms"] - sum(edit["phases"].values()) for edit in edits)
    return {name: round(value, 1) for name, value in {**found, "everything else": median(rests)}.items()}


def _within(setting: Setting, record: Recorder, within: Within) -> None:
    with served(setting, within.budget_bytes) as daemon:
        record.put("plan", value=_plan(daemon))
        record.put("budget", value=_edit(daemon.edit(within.request)))
        # With references as large as here, or the comparison would be of different work.
        pixels = daemon.loaded["execution"]["max_reference_pixels"]
    with served(setting, None, pixels) as daemon:
        record.put("resident_plan", value=_plan(daemon))
        record.put("resident", value=_edit(daemon.edit(within.request)))


def _plan(daemon: Served) -> dict[str, Any]:
    """What the plan says, and what the worker made of it."""
    told = ("device", "precision", "max_pixels", "peak_bytes", "budget_bytes")
    return {**{name: daemon.planned.get(name) for name in told}, "worker": daemon.loaded}


def _edit(made: Made) -> dict[str, Any]:
    """Figures of one edit."""
    return {
        "width": made.result.width,
        "height": made.result.height,
        "steps": len(made.steps),
        "ms": round(made.milliseconds, 1),
        "step_ms": round(median(made.steps), 3),
        "phases": made.phases,
        "png_ms": made.result.timings["encode_ms"],
        "held_ms": made.result.timings["held_ms"],
        "result_bytes": len(made.result.bytes),
        "memory": made.line["memory"],
    }

"""The bars that the built-in model and the precisions have to reach, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quality_bench import rows
from quality_bench.measures import HELD_OUT_CHINESE, HELD_OUT_ENGLISH, OVERALL
from tools.tiny_model.phrasings import TASKS

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One bar: ``measure`` gives the figure of a report, None where its rows were not run.

    ``unit`` is "share" (0..1) or "dB". It is met at ``limit`` and above it, or below it where ``at_most``.
    """

    name: str
    limit: float
    unit: str
    measure: Callable[[Report], float | None]
    at_most: bool = False


def judged(report: Report) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met, None where it was not measured."""
    found = []
    for bar in BARS:
        value = bar.measure(report)
        met = None if value is None else (value <= bar.limit if bar.at_most else value >= bar.limit)
        found.append(
            {"name": bar.name, "value": value, "limit": bar.limit, "at_most": bar.at_most, "unit": bar.unit, "met": met}
        )
    return found


def _row(report: Report, name: str) -> Report | None:
    return next((row for row in report["rows"] if row["name"] == name), None)


def _success(name: str, group: str) -> Callable[[Report], float | None]:
    def measure(report: Report) -> float | None:
        row = _row(report, name)
        return row["groups"][group]["success"]["share"] if row and group in row["groups"] else None

    return measure


def _least_task(report: Report) -> float | None:
    shares = [_success(rows.MAIN, task)(report) for task in TASKS]
    return min((share for share in shares if share is not None), default=None)


def _preserved(report: Report) -> float | None:
    row = _row(report, rows.MAIN)
    return row["groups"][OVERALL]["preserved_db"] if row else None


def _vae(report: Report) -> float | None:
    return report["vae"]["fp32"]["mean_db"] if report["vae"] else None


def _loss(name: str) -> Callable[[Report], float | None]:
    def measure(report: Report) -> float | None:
        row = _row(report, name)
        return -row["against_bf16"]["mean_db"] if row and row["against_bf16"] else None

    return measure


def _worst_task_loss(report: Report) -> float | None:
    row = _row(report, rows.ROWWISE)
    return -min(row["against_bf16"]["tasks_db"].values()) if row and row["against_bf16"] else None


def _lightning(report: Report) -> float | None:
    few, many = (_success(name, OVERALL)(report) for name in (rows.LIGHTNING, rows.MAIN))
    return None if few is None or not many else few / many


def _style(name: str, which: str) -> Callable[[Report], float | None]:
    def measure(report: Report) -> float | None:
        row = _row(report, name)
        return row["style"][which]["share"] if row and which in row["style"] else None

    return measure


BARS = (
    Bar("success, 20 steps", 0.95, "share", _success(rows.MAIN, OVERALL)),
    Bar("success of the least task", 0.90, "share", _least_task),
    Bar("success, unseen phrasings, English", 0.85, "share", _success(rows.MAIN, HELD_OUT_ENGLISH)),
    Bar("success, unseen phrasings, Chinese", 0.85, "share", _success(rows.MAIN, HELD_OUT_CHINESE)),
    Bar("preserved region", 42.0, "dB", _preserved),
    Bar("VAE there and back", 45.0, "dB", _vae),
    Bar("PSNR that FP8 row-wise loses", 0.1, "dB", _loss(rows.ROWWISE), at_most=True),
    Bar("PSNR that it loses, worst task", 0.3, "dB", _worst_task_loss, at_most=True),
    Bar("PSNR that INT8 loses", 0.05, "dB", _loss(rows.INT8), at_most=True),
    Bar("PSNR that GGUF Q8_0 loses", 0.1, "dB", _loss(rows.GGUF_Q8), at_most=True),
    Bar("success, 4 steps + lightning, over 20", 0.98, "share", _lightning),
    Bar("style shows with its LoRA", 0.95, "share", _style(rows.STYLE, "with")),
    Bar("style shows without", 0.0, "share", _style(rows.MAIN, "without"), at_most=True),
    Bar("style shows with its LoRA, packed", 0.95, "share", _style(rows.MIXED, "with")),
    Bar("style shows without, packed", 0.0, "share", _style(rows.MIXED, "without"), at_most=True),
)

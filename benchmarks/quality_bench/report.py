"""The whole run: which rows can run here, all of them one after the other, and the report of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wire_bench.machine import command, versions, without_identity

from qied.hardware.snapshot import Snapshot
from quality_bench import rows, sets
from quality_bench.bars import judged
from quality_bench.engines import Model
from quality_bench.loras import problem
from quality_bench.measures import Figures
from quality_bench.measuring import (
    VAE_FORWARDS,
    Measured,
    OnWork,
    forwards_of,
    row_report,
    run_row,
    sessions_of,
    vae_report,
    vae_scenes,
)
from quality_bench.rows import Row
from quality_bench.text_errors import ROUNDED, text_errors
from quality_bench.workers import Workers

SCHEMA = 1
PLACES = 4


@dataclass(frozen=True)
class Chosen:
    """What is run: rows in order, whether VAE and text encoder are measured, and what is left out and why."""

    rows: tuple[Row, ...]
    vae: bool
    text: bool
    device: str
    limit: int | None
    notes: tuple[str, ...]

    def forwards(self) -> int:
        """Forwards of the transformer in all, for progress."""
        vae = VAE_FORWARDS * len(vae_scenes(self.limit)) * (2 if self.device == "cuda" else 1) if self.vae else 0
        text = len(ROUNDED) * len(sets.single_edits(self.limit)) if self.text else 0
        return vae + text + sum(forwards_of(row, sessions_of(row, self.limit)) for row in self.rows)


def choose(model: Model, only: Sequence[str] | None, limit: int | None) -> Chosen:
    """Choose rows by name (None: all); those that cannot run are left out, with a note."""
    catalogue = model.catalogue()
    runnable: list[Row] = []
    notes: list[str] = []
    usual, text = rows.rows(model.profile), rows.text_rows(model.profile)
    for row in (*usual, *text):
        if row.name not in (only if only is not None else [each.name for each in usual]):
            continue
        if row.lora is not None and (reason := problem(row.lora, catalogue)) is not None:
            notes.append(f"`{row.name}` was left out: {reason}.")
        elif row.bf16_vae and model.device == "cpu":
            notes.append(f"`{row.name}` was left out: on a CPU the VAE runs in FP32.")
        else:
            runnable.append(row)
    vae, encoder = only is None or rows.VAE in only, only is not None and rows.TEXT in only
    return Chosen(tuple(runnable), vae, encoder, model.device, limit, tuple(notes))


def run_all(
    model: Model, chosen: Chosen, workers: Workers, keep: frozenset[int], on_work: OnWork
) -> Iterator[tuple[Figures, Measured | None]]:
    """Run what was chosen; after each row, the figures so far, and the row as it was measured (None: the VAE).

    Pictures of the edits ``keep`` stay, of the main row.
    """
    measured: dict[str, Measured] = {}
    figures: Figures = {"vae": None, "rows": []}
    if chosen.text:
        figures["text encoder"] = text_errors(model, sets.single_edits(chosen.limit), on_work)
        yield figures, None
    for row in chosen.rows:
        kept = keep if row.name == rows.MAIN else frozenset()
        measured[row.name] = run_row(row, workers, chosen.limit, kept, on_work)
        figures["rows"].append(row_report(measured[row.name], measured))
        yield figures, measured[row.name]
    if chosen.vae:
        figures["vae"] = {"fp32": vae_report(workers, chosen.limit, bf16=False, on_work=on_work)}
        if model.device == "cuda":
            figures["vae"]["bf16"] = vae_report(workers, chosen.limit, bf16=True, on_work=on_work)
        yield figures, None


def whole_report(model: Model, chosen: Chosen, figures: Figures, snapshot: Snapshot, started: float) -> dict[str, Any]:
    """Figures, bars, and what they were measured on; ``started`` is the time of ``time.time`` when the run began."""
    simulated = "" if model.device == "cuda" else " (FP8 simulated with the same casts)"
    device = snapshot.gpus[0].name if model.device == "cuda" else f"{snapshot.host.cpu_count} CPU cores{simulated}"
    report = {
        "schema": SCHEMA,
        "benchmark": "quality",
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": time.time() - started,
        "machine": without_identity(snapshot.to_json()),
        "versions": versions(),
        "device": device,
        "weights": weights_hash(model),
        "steps": rows.STEPS,
        "recommended_cfg": model.profile.preset(None).true_cfg_scale,
        "edits": len(sessions_of(rows.rows(model.profile)[0], chosen.limit)),
        "limit": chosen.limit,
        "notes": list(chosen.notes),
        **figures,
    }
    return {**rounded(report), "bars": rounded(judged(report))}


def weights_hash(model: Model) -> str:
    """SHA-256 (hex) over the weight files of the model and its LoRAs: says whether figures are those of other files."""
    found = hashlib.sha256()
    for folder in (model.folder, model.loras):
        for path in sorted(folder.rglob("*.safetensors")):
            found.update(path.relative_to(folder).as_posix().encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def rounded(value: Any) -> Any:
    """The same JSON value with numbers rounded to four places, which is more than they mean."""
    if isinstance(value, float):
        return round(value, PLACES)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value

"""Runs the stages in order, each from where the last run left it, and keeps a log of what they measure."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.tiny_model.budgets import Budget
from tools.tiny_model.codec_stage import CodecStage
from tools.tiny_model.edit_stage import EditStage
from tools.tiny_model.lora_stage import LightningStage, OutlineStage
from tools.tiny_model.ranks import ALONE, Ranks
from tools.tiny_model.settle_stage import SettleStage
from tools.tiny_model.stage import STAGES, Stage
from tools.tiny_model.text_stage import TextStage
from tools.tiny_model.tokenizer import build_tokenizer

ROUNDS = (("codec", "text"), ("edit",), ("settle",), ("lightning", "outline"))
"""Stages of a round do not need each other: with several GPUs they run side by side."""
TOGETHER = ("edit", "settle")
"""Stages that all GPUs work on."""
REPORTS = 40
"""Lines in the log over a stage."""
SAVE_SECONDS = 120.0
LOOK_UP_STEPS = 64
"""Steps on a GPU between two looks at the clock."""


class AnotherBudgetError(ValueError):
    """The folder was begun with another budget."""


class OutOfTimeError(Exception):
    """The time given to this run is over; the next run goes on."""


@dataclass
class Run:
    """One call of the training command on the folder of a training."""

    folder: Path
    budget: Budget
    device: torch.device
    until: float = float("inf")
    """``time.monotonic`` at which to stop and save."""
    workers: int | None = None
    """Processes that draw edits; None: as the budget says."""
    ranks: Ranks = ALONE

    def train(self, console: Console, only: tuple[str, ...] = STAGES) -> None:
        """Run every stage of ``only`` that is not finished; raises ``OutOfTimeError`` where time runs out first."""
        torch.set_float32_matmul_precision("high")
        if self.ranks.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._settle_budget()
            self._make_tokenizer()
        self.ranks.wait()
        for stages in ROUNDS:
            mine = [
                name
                for number, name in enumerate(stages)
                if name in TOGETHER or number % self.ranks.count == self.ranks.own
            ]
            late = self._run_stages([name for name in mine if name in only], console)
            if self.ranks.any(late is not None, self.device):
                raise late or OutOfTimeError("another process had no more time")

    def _make_tokenizer(self) -> None:
        """Build it aside: a folder by its name is whole."""
        if not (self.folder / "tokenizer").exists():
            fresh = self.folder / "tokenizer.writing"
            shutil.rmtree(fresh, ignore_errors=True)
            build_tokenizer(fresh)
            fresh.replace(self.folder / "tokenizer")

    def _run_stages(self, names: list[str], console: Console) -> OutOfTimeError | None:
        """Run those that are not finished; return the reason where one could not be, as other processes wait."""
        try:
            for name in names:
                if not self._done(name).exists():
                    self._run_stage(name, console)
        except OutOfTimeError as reason:
            return reason
        return None

    def _settle_budget(self) -> None:
        """A folder belongs to one budget: stages of two would not make one training."""
        mine, kept = repr(self.budget), self.folder / "budget.txt"
        if not kept.exists():
            kept.write_text(mine)
        elif kept.read_text() != mine:
            raise AnotherBudgetError(
                f"{self.folder} was begun with another budget: {kept.read_text()}. Take another folder."
            )

    def _done(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _state(self, name: str) -> Path:
        return self.folder / f"{name}-{self.ranks.own}.state"

    def _stage(self, name: str) -> Stage:
        where = self.budget, self.folder, self.device, self.workers
        stages: dict[str, Callable[[], Stage]] = {
            "codec": lambda: CodecStage(self.budget, self.device),
            "text": lambda: TextStage(*where),
            "edit": lambda: EditStage(*where, self.ranks),
            "settle": lambda: SettleStage(*where, self.ranks),
            "lightning": lambda: LightningStage(*where),
            "outline": lambda: OutlineStage(*where),
        }
        return stages[name]()

    def _run_stage(self, name: str, console: Console) -> None:
        begun = time.monotonic()
        stage = self._stage(name)
        step = 0
        if self._state(name).exists():
            kept = torch.load(self._state(name), map_location=self.device, weights_only=True)
            step = kept.pop("step")
            stage.load(kept["stage"])
        self._log(console, name, step, {"seconds to prepare": time.monotonic() - begun})
        step = self._steps(stage, step, console)
        if name in TOGETHER and not self.ranks.leads:
            self._state(name).unlink(missing_ok=True)
            return
        measures = stage.finish(self.folder)
        self._log(console, name, step, measures)
        fresh = self._done(name).with_suffix(".writing")
        fresh.write_text(json.dumps(measures, indent=2) + "\n")
        fresh.replace(self._done(name))
        self._state(name).unlink(missing_ok=True)

    def _steps(self, stage: Stage, step: int, console: Console) -> int:
        parts = self.budget.checks
        checks = {stage.total * number // parts for number in range(1, parts)}
        reports = {stage.total * (number + 1) // REPORTS for number in range(REPORTS)}
        together = stage.name in TOGETHER and self.ranks.count > 1
        alone = not together or self.ranks.leads
        look_up = LOOK_UP_STEPS if self.device.type == "cuda" else 1
        began, first, saved = time.monotonic(), step, time.monotonic()
        with _progress(console) as progress:
            bar = progress.add_task(stage.name, total=stage.total, completed=step, note="")
            while step < stage.total:
                stage.advance(step)
                step += 1
                if step in reports:
                    measures = stage.measures()
                    rate = (step - first) / (time.monotonic() - began)
                    progress.update(bar, completed=step, note=_words({"steps/s": rate, **measures}))
                    if alone:
                        self._log(None, stage.name, step, {"steps per second": rate, **measures})
                if step in checks and alone:
                    self._log(progress.console, stage.name, step, stage.validate())
                if step % look_up:
                    continue
                _catch_up(self.device)
                late, due = (
                    flag if not together else self.ranks.any(flag, self.device)
                    for flag in (time.monotonic() > self.until, time.monotonic() > saved + SAVE_SECONDS)
                )
                if late or due:
                    self._save(stage, step)
                    saved = time.monotonic()
                if late and step < stage.total:
                    raise OutOfTimeError(f"{stage.name}: {step} of {stage.total} steps are done")
        return step

    def _save(self, stage: Stage, step: int) -> None:
        """Write the state so that a broken-off write leaves the one before."""
        fresh = self._state(stage.name).with_suffix(".writing")
        torch.save({"step": step, "stage": stage.state()}, fresh)
        fresh.replace(self._state(stage.name))

    def _log(self, console: Console | None, stage: str, step: int, measures: dict[str, float]) -> None:
        line: dict[str, Any] = {"stage": stage, "step": step, **measures}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if console is not None:
            console.print(f"{stage} {step}: {_words(measures)}", highlight=False)


def _catch_up(device: torch.device) -> None:
    """Wait for the GPU: the clock is to be that of the work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _words(measures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measures.items())


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )

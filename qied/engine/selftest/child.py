"""The child's loop: run each trial, and write how it came out as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from qied.hardware.snapshot import Trial
from qied.hardware.trial_lines import FinishedTrial, Line, Ready, Started


@dataclass(frozen=True)
class Rate:
    """Bytes a second that a transfer reached."""

    bytes_per_s: int


@dataclass(frozen=True)
class TrialFacts:
    """What a trial found out besides that it went well."""

    facts: dict[str, str | int | float]


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Suite:
    """Named trials in order. ``usable`` tells after a failure whether the device still answers in this process."""

    trials: Mapping[str, Callable[[], Trial | Rate | TrialFacts]]
    usable: Callable[[], bool] = field(default=_always)


_LONGEST_ERROR = 200


def run_suite(suite: Suite, skip: Collection[str], report: Callable[[Line], None]) -> None:
    """Run all trials but those in ``skip``; stops early where a failure left the device unusable in this process."""
    wanted = [name for name in suite.trials if name not in skip]
    report(Ready(trials=tuple(wanted)))
    for name in wanted:
        report(Started(name=name))
        finished = _finished(name, suite.trials[name])
        report(finished)
        if not finished.trial.ok and not suite.usable():
            return


def _finished(name: str, run: Callable[[], Trial | Rate | TrialFacts]) -> FinishedTrial:
    try:
        result = run()
    except Exception as error:  # noqa: BLE001 - whatever a kernel raises is the answer of its trial
        return FinishedTrial(name=name, trial=Trial(ok=False, error=_reason(error)))
    if isinstance(result, Rate):
        return FinishedTrial(name=name, trial=Trial(ok=True), bytes_per_s=result.bytes_per_s)
    if isinstance(result, TrialFacts):
        return FinishedTrial(name=name, trial=Trial(ok=True), facts=result.facts)
    return FinishedTrial(name=name, trial=result)


def _reason(error: Exception) -> str:
    """The first line that says something: CUDA's messages continue with advice to programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:_LONGEST_ERROR] if lines else type(error).__name__

"""Upscaling models as processes with torch see them: architectures of spandrel, and half precisions that a card proves.

What they answer is kept as long as the file, the card, torch and spandrel stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from qied_client.errors import ModelUnsupported
from qied_client.installing import install_extra

from qied.hardware.cache import FactCache, Key
from qied.hardware.selftest_process import TimeLimits, run_trials
from qied.hardware.snapshot import Gpu, Snapshot
from qied.hardware.user_folders import user_cache_folder
from qied.hardware.visibility import select_card
from qied.planning.edits.upscaling import UpscalerFacts
from qied.progress import OnProgress
from qied.upscalers.catalogue import ProvenPrecision, Upscalers, check_scale

FILES: Final = "UPSCALER_FILES"
"""Variable with the paths of the models that a child tries, by name, as JSON; no setting."""
DESCRIBED: Final = "qied.engine.selftest.upscalers:described"
ON_CARD: Final = "qied.engine.selftest.upscalers:card"
REVISION: Final = 2
"""Of the trials: another one makes kept answers void."""
_LIMITS: Final = TimeLimits(trial_s=60.0, all_s=600.0)
_HALVES: Final = ("fp16", "bf16")


class _Answer(BaseModel):
    """What a trial said of one model: its facts, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: dict[str, str | int | float] = {}
    error: str = ""


@dataclass(frozen=True)
class Examiner:
    """Asks processes of ``environ``, and keeps what they say in ``cache``. ``only_cached`` starts none.

    ``card_suite`` names the trials of a card.
    """

    environ: Mapping[str, str]
    cache: FactCache
    on_progress: OnProgress | None = None
    only_cached: bool = False
    limits: TimeLimits = _LIMITS
    card_suite: str = ON_CARD

    def examined(self, found: Upscalers, snapshot: Snapshot) -> Upscalers:
        """``found`` with the models of other architectures that can be used, and with what each card shows."""
        described = self._described(found, snapshot)
        proven: dict[str, dict[str, ProvenPrecision]] = {}
        measured: dict[str, int] = {}
        for gpu in {gpu.name: gpu for gpu in _cards(snapshot)}.values():
            answers = self._ask(self.card_suite, described.files, _of_card(snapshot, gpu), select_card(gpu))
            for name, answer in answers.items():
                if not answer.error:
                    measured[name] = max(measured.get(name, 0), int(answer.facts["measured_bytes"]))
                    proven.setdefault(gpu.name, {})[name] = _proven(answer.facts)
        facts = {name: replace(each, measured_bytes=measured.get(name, 0)) for name, each in described.facts.items()}
        return replace(described, facts=facts, proven=proven)

    def _described(self, found: Upscalers, snapshot: Snapshot) -> Upscalers:
        files, facts, problems = dict(found.files), dict(found.facts), dict(found.problems)
        package = _version("spandrel")
        if package is None:
            problems |= dict.fromkeys(found.others.values(), _WITHOUT)
            return replace(found, problems=problems)
        about: Key = {"torch": _torch(snapshot), "spandrel": package}
        # No card is needed, and none is to be waited for.
        answers = self._ask(DESCRIBED, found.others, about, {"CUDA_VISIBLE_DEVICES": ""})
        for name, path in found.others.items():
            answer = answers.get(name)
            try:
                if answer is None or answer.error:
                    raise ModelUnsupported(_UNASKED if answer is None else answer.error)
                each = _facts(answer.facts)
                check_scale(each.scale, Path(path).name)
            except ModelUnsupported as error:
                problems[path] = str(error)
            else:
                files[name], facts[name] = path, each
        return replace(found, files=files, facts=facts, problems=problems, others={})

    def _ask(self, suite: str, files: Mapping[str, str], about: Key, environ: Mapping[str, str]) -> dict[str, _Answer]:
        """Answers by name, kept ones and new ones; without those that could not be had."""
        keys = {name: key for name, path in files.items() if (key := _key(suite, path, about)) is not None}
        answers = {name: answer for name, key in keys.items() if (answer := self.cache.load(key, _Answer)) is not None}
        missing = {name: files[name] for name in keys if name not in answers}
        if not missing or self.only_cached:
            return answers
        variables = {**self.environ, **environ, FILES: json.dumps(missing)}
        findings = run_trials(suite, variables, self.limits, self.on_progress or (lambda *_: None))
        for name, line in findings.results.items():
            reason = (line.trial.error or "unknown").removeprefix(f"{ModelUnsupported.__name__}: ")
            answers[name] = _Answer(facts=line.facts, error="" if line.trial.ok else reason)
            if findings.lasting:
                self.cache.store(keys[name], answers[name])
        if findings.failure is not None:
            failed = _Answer(error=f"It could not be examined: {findings.failure}.")
            answers |= {name: failed for name in missing if name not in answers}
        return answers


def examined(
    found: Upscalers,
    snapshot: Snapshot,
    environ: Mapping[str, str],
    on_progress: OnProgress | None = None,
    *,
    only_cached: bool = False,
) -> Upscalers:
    """``found`` as ``Examiner.examined`` has it, with answers kept in the user's cache folder.

    Takes some seconds the first time, and none where there is neither a card nor a model of spandrel's. Raises
    ConfigError where no cache folder is known.
    """
    if not (found.others or (found.files and _cards(snapshot))):
        return found
    cache = FactCache(user_cache_folder(), "upscalers")
    return Examiner(environ, cache, on_progress, only_cached).examined(found, snapshot)


def _cards(snapshot: Snapshot) -> tuple[Gpu, ...]:
    return snapshot.gpus if snapshot.torch is not None and snapshot.torch.cuda is not None else ()


def _of_card(snapshot: Snapshot, gpu: Gpu) -> Key:
    driver = None if snapshot.driver is None else snapshot.driver.version
    return {"torch": _torch(snapshot), "spandrel": _version("spandrel"), "driver": driver, "card": gpu.name}


_WITHOUT: Final = (
    "It is neither RRDB nor compact, which need nothing else. If it is another upscaler, install what may know it, and "
    f"restart the daemon: {install_extra('qied[upscalers]')}"
)
_UNASKED: Final = "It was not examined yet: 'qied serve' does so when it starts."


def _key(suite: str, path: str, about: Key) -> Key | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    file: Key = {"file": path, "bytes": facts.st_size, "changed_ns": facts.st_mtime_ns}
    return {"suite": suite, "revision": REVISION, **file, **about}


def _facts(given: Mapping[str, Any]) -> UpscalerFacts:
    return UpscalerFacts(**{**given})


def _proven(facts: Mapping[str, Any]) -> ProvenPrecision:
    return ProvenPrecision(facts["precision"], {half: float(facts[half]) for half in _HALVES if half in facts})


def _torch(snapshot: Snapshot) -> str | None:
    return None if snapshot.torch is None else snapshot.torch.version


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

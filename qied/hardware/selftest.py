"""The self-test: small kernels measured once on each card of this machine, kept as long as the result applies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from qied.hardware.cache import FactCache, Key
from qied.hardware.selftest_process import Findings, TimeLimits, run_trials
from qied.hardware.snapshot import Gpu, SelfTest, Snapshot, Trial
from qied.hardware.trial_lines import FinishedTrial
from qied.hardware.user_folders import user_cache_folder
from qied.hardware.visibility import select_card
from qied.progress import OnProgress

CARD_SUITE = "qied.engine.selftest.trials:card"
REVISION = 5
"""Of the trials: another one makes kept results void."""

_MATRIX_TRIALS = ("bf16", "fp8_rowwise", "fp8_tensorwise", "fp8_storage", "int8")
_ATTENTION = "attention."
_TRANSFER = "host_to_device"


def measured(
    snapshot: Snapshot,
    *,
    environ: Mapping[str, str] | None = None,
    cache_folder: Path | None = None,
    on_progress: OnProgress | None = None,
    only_cached: bool = False,
    fresh: bool = False,
    read_only: bool = False,
    suite: str = CARD_SUITE,
    limits: TimeLimits | None = None,
) -> Snapshot:
    """``snapshot`` of this machine with ``selftest`` filled in for every card.

    Results are kept per card, driver, torch and cuDNN frontend. ``only_cached`` runs nothing: a card without kept
    results stays as it is. ``fresh`` measures again whatever is kept; with ``read_only`` nothing new is kept. Takes
    some ten seconds a card; without a torch for CUDA nothing runs. Raises ConfigError where no cache folder is given
    or known.
    """
    if snapshot.torch is None or snapshot.torch.cuda is None:
        return snapshot
    base = os.environ if environ is None else environ
    cache = FactCache(cache_folder or user_cache_folder(), "selftest", read_only=read_only)
    gpus = []
    for gpu in snapshot.gpus:
        key = _key(snapshot, gpu, suite)
        result = None if fresh else cache.load(key, SelfTest)
        if result is None and not only_cached:
            told = _for_card(gpu, on_progress)
            findings = run_trials(suite, {**base, **select_card(gpu)}, limits or TimeLimits(), told)
            result = as_selftest(findings)
            if findings.lasting and findings.failure is None:
                cache.store(key, result)
        gpus.append(gpu if result is None else gpu.model_copy(update={"selftest": result}))
    return snapshot.model_copy(update={"gpus": tuple(gpus)})


def as_selftest(findings: Findings) -> SelfTest:
    """The results by their place in the snapshot; where nothing could start, each mode fails with the reason."""
    results = findings.results
    if findings.failure is not None:
        unproven = Trial(ok=False, error=f"the self-test does not run: {findings.failure}")
        missing = (name for name in _MATRIX_TRIALS if name not in results)
        results = results | {name: FinishedTrial(name=name, trial=unproven) for name in missing}
    transfer = results.get(_TRANSFER)
    return SelfTest(
        **{name: results[name].trial for name in _MATRIX_TRIALS if name in results},
        attention={
            name.removeprefix(_ATTENTION): line.trial for name, line in results.items() if name.startswith(_ATTENTION)
        },
        host_to_device_bytes_per_s=None if transfer is None else transfer.bytes_per_s,
        host_to_device_error=None if transfer is None else transfer.trial.error,
    )


def _key(snapshot: Snapshot, gpu: Gpu, suite: str) -> Key:
    return {
        "suite": suite,
        "revision": REVISION,
        "driver": None if snapshot.driver is None else snapshot.driver.version,
        "torch": None if snapshot.torch is None else snapshot.torch.version,
        "cudnn_frontend": snapshot.packages.get("nvidia-cudnn-frontend"),
        "card": gpu.name,
        "uuid": gpu.uuid,
        "index": gpu.index if gpu.uuid is None else None,
    }


def _for_card(gpu: Gpu, on_progress: OnProgress | None) -> OnProgress:
    def told(trial: str, done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(f"{gpu.name}: {trial}", done, total)

    return told

"""Collects the facts: reads, finds and plans, and keeps failures on the way for the checks to report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from qied_client.errors import ConfigError, QiedError

from qied.config import LoadedConfig
from qied.doctor.facts import Facts
from qied.hardware.snapshot import Snapshot
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.model_profile import DEFAULT_MODEL, ModelProfile, shipped_profiles
from qied.serving.model import ServedModel, locate_model

Planner = Callable[[Snapshot, ModelProfile, LoadedConfig], Plan | Refusal]
T = TypeVar("T")


def examine(
    snapshot: Snapshot,
    config: LoadedConfig | ConfigError,
    planner: Planner,
    *,
    this_machine: bool,
    home: Path,
    user_home: Path,
    environ: Mapping[str, str],
) -> Facts:
    """The facts of a machine; raises nothing, since a failure is a fact as well."""
    if not isinstance(config, LoadedConfig):
        return Facts(snapshot, config, None, None, this_machine, home, user_home, environ, time.time())
    model = _attempt(lambda: locate_model(config.config.model, environ, user_home))
    named = shipped_profiles().get(config.config.model.path, shipped_profiles()[DEFAULT_MODEL])
    profile = model.profile if isinstance(model, ServedModel) else named
    plan = _attempt(lambda: planner(snapshot, profile, config))
    return Facts(snapshot, config.config, model, plan, this_machine, home, user_home, environ, time.time())


def _attempt(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except QiedError as problem:
        return problem
    except Exception as defect:  # noqa: BLE001 - the check that asks for the outcome raises and reports it
        return defect

"""Machines and facts to examine; what a test does not mention is in order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qied.config import load_config
from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import run_checks
from qied.doctor.facts import Facts
from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import wishes_of

GIB = 1024**3
NOBODY = 65534

SELFTEST = {
    "bf16": {"ok": True, "tflops": 60.0, "relative_error": 0.003},
    "fp8_rowwise": {"ok": True, "tflops": 110.0, "relative_error": 0.037},
    "fp8_tensorwise": {"ok": True, "tflops": 120.0, "relative_error": 0.038},
    "host_to_device_bytes_per_s": 25_000_000_000,
}
GPU = {
    "index": 0,
    "uuid": "GPU-5e1f7e57-0000-4000-8000-000000000001",
    "name": "NVIDIA GeForce RTX 4070",
    "compute_capability": [8, 9],
    "memory_total_bytes": 12 * GIB,
    "memory_free_bytes": 12 * GIB - 400 * 1024**2,
    "pcie": {"generation": 1, "width": 16, "generation_max": 4, "width_max": 16},
    "processes": [{"pid": 42, "name": "Xorg", "used_bytes": 300 * 1024**2}],
    "selftest": SELFTEST,
}
MACHINE: dict[str, Any] = {
    "schema": 1,
    "os": {"system": "Linux", "release": "6.8.0", "python": "3.11.7"},
    "host": {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 56 * GIB, "cpu_count": 16},
    "driver": {"version": "560.35.03", "cuda": "12.6"},
    "torch": {
        "version": "2.13.0+cu126",
        "cuda": "12.6",
        "arch_list": ["sm_75", "sm_80", "sm_86", "sm_90"],
        "cudnn": "91002",
    },
    "packages": {"diffusers": "0.42.1", "transformers": "5.23.0", "safetensors": "0.8.0", "pyzmq": "27.0.2"},
    "gpus": [GPU],
}


@pytest.fixture
def machine():
    """A 12 GB card where all is well; ``gpu``, ``torch`` and so on change single values, None takes them away."""

    def make(*, gpu: Any = (), gpus: Any = None, problems: Any = (), **parts: Any) -> Snapshot:
        document = dict(MACHINE)
        for name, values in parts.items():
            document[name] = None if values is None else {**(MACHINE[name] or {}), **values}
        cards = [{**GPU, **dict(gpu)}] if gpu is not None else []
        document["gpus"] = cards if gpus is None else [{**GPU, **each} for each in gpus]
        document["problems"] = [{"code": code, "message": text} for code, text in dict(problems).items()]
        return Snapshot.model_validate(document)

    return make


@pytest.fixture
def planned():
    """The planner's own answer for a machine."""

    def make(snapshot: Snapshot, model: str = "qwen-image-edit-2511", **overrides: Any):
        loaded = load_config(None, {}, overrides)
        return plan(snapshot, PlanRequest(shipped_profiles()[model], shipped_hardware_profiles(), wishes_of(loaded)))

    return make


@pytest.fixture
def facts(machine, planned, tmp_path):
    """The facts of a machine, with a plan unless one is given."""

    def make(snapshot: Snapshot | None = None, *, overrides: Any = (), **fields: Any) -> Facts:
        seen = machine() if snapshot is None else snapshot
        base: dict[str, Any] = {
            "snapshot": seen,
            "config": load_config(None, {}, dict(overrides)).config,
            "model": None,
            "this_machine": True,
            "home": tmp_path / "state",
            "user_home": tmp_path / "user",
            "environ": {},
            "now": time.time(),
        }
        if "plan" not in fields:
            base["plan"] = planned(seen)
        return Facts(**{**base, **fields})

    return make


@pytest.fixture
def ask():
    """The finding of one check by its id."""

    def find(identifier: str, examined: Facts):
        (check,) = [check for check in CHECKS if check.id == identifier]
        checkup = run_checks([check], examined)
        assert not checkup.traces, checkup.traces
        return checkup.findings[0]

    return find


@pytest.fixture
def locked(tmp_path):
    """Enter with a path of a folder that this process may not enter for as long; a superuser becomes nobody."""

    @contextmanager
    def lock(name: str = "locked") -> Iterator[Path]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0)
        nobody = os.geteuid() == 0
        if nobody:
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield folder
        finally:
            if nobody:
                os.setresuid(0, 0, 0)
            folder.chmod(0o700)

    return lock

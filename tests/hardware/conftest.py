"""Captured texts, a recorded NVML to replay, and an environment in which child processes find faulty trials."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

HERE = Path(__file__).parent


class RecordedNvml:
    """Answers calls from a record; what is not in it is what a card does not support. Errors are pynvml's own."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = pynvml.NVMLError_DriverNotLoaded
    NVMLError_LibRmVersionMismatch = pynvml.NVMLError_LibRmVersionMismatch

    def __init__(self, record):
        self.record = {"nvmlInit": None, "nvmlShutdown": None, **record}
        self.calls = []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*arguments):
            self.calls.append(name)
            key = (name, *arguments) if arguments else name
            told = self.record.get(key, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
            if isinstance(told, Exception):
                raise told
            return told

        return answer


@pytest.fixture
def captured():
    return lambda name: (HERE / "captured" / name).read_text(encoding="utf-8")


@pytest.fixture
def recorded_nvml():
    return RecordedNvml


@pytest.fixture
def two_cards():
    """A recorded workstation: a display card that tells everything, and a second one that tells little."""
    first, second = "card 0", "card 1"
    return {
        "nvmlDeviceGetCount": 2,
        "nvmlSystemGetDriverVersion": "560.35.03",
        "nvmlSystemGetCudaDriverVersion_v2": 12060,
        ("nvmlDeviceGetHandleByIndex", 0): first,
        ("nvmlDeviceGetHandleByIndex", 1): second,
        ("nvmlDeviceGetUUID", first): "GPU-49375ffb-ea5f-369d-5212-f34be947e633",
        ("nvmlDeviceGetName", first): b"NVIDIA GeForce RTX 4090",
        ("nvmlDeviceGetCudaComputeCapability", first): (8, 9),
        ("nvmlDeviceGetMemoryInfo", first): SimpleNamespace(total=25757220864, free=24000000000, used=1757220864),
        ("nvmlDeviceGetDisplayActive", first): 1,
        ("nvmlDeviceGetCurrPcieLinkGeneration", first): 1,
        ("nvmlDeviceGetCurrPcieLinkWidth", first): 16,
        ("nvmlDeviceGetMaxPcieLinkGeneration", first): 4,
        ("nvmlDeviceGetMaxPcieLinkWidth", first): 16,
        ("nvmlDeviceGetComputeRunningProcesses_v3", first): [SimpleNamespace(pid=77, usedGpuMemory=400)],
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", first): [
            SimpleNamespace(pid=77, usedGpuMemory=400),
            SimpleNamespace(pid=42, usedGpuMemory=None),
            SimpleNamespace(pid=43, usedGpuMemory=900),
        ],
        ("nvmlDeviceGetUUID", second): "GPU-0a1c2f6e-92d4-4c1b-8f52-6a1f0a3be0d7",
        ("nvmlDeviceGetName", second): "NVIDIA GeForce RTX 3060",
    }


@pytest.fixture(scope="session")
def faulty():
    """Environment of child processes that can import the suites of ``faults/fault_trials.py``."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE / "faults"), os.environ.get("PYTHONPATH", "")])}

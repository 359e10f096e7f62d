"""How much memory an edit takes, seen from outside: the card's by the driver, else that of the worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pynvml
from qied_client.errors import SetupError

from qied.hardware.snapshot import Gpu

_PERIOD_S = 0.05

Meter = Callable[[], int]
"""Bytes in use at this moment."""
MeterOf = Callable[[int], Meter]
"""From the process number of a daemon to what measures the memory that its work takes."""


class Peak:
    """The highest reading so far, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, reading: int) -> None:
        """Count a reading."""
        self.bytes = max(self.bytes, reading)


@contextmanager
def watching(meter: Meter) -> Iterator[Peak]:
    """Read the meter twenty times a second, and once more at the end."""
    peak, done = Peak(), threading.Event()

    def sample() -> None:
        while not done.wait(_PERIOD_S):
            peak.take(meter())

    thread = threading.Thread(target=sample, name="memory meter", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.take(meter())


@contextmanager
def card_meter(gpu: Gpu, nvml: Any = pynvml) -> Iterator[MeterOf]:
    """Memory taken on a card beyond what is taken now, before the daemon starts.

    The difference is the same inside and outside a container, where process numbers differ; another program that
    takes memory meanwhile counts as well. Raises SetupError where the driver does not answer.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise SetupError(f"The card's memory cannot be measured: {error}.", "See what `nvidia-smi` says.") from error
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid) if gpu.uuid else nvml.nvmlDeviceGetHandleByIndex(gpu.index)
        before = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
        yield lambda daemon: lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used) - before
    finally:
        nvml.nvmlShutdown()


@contextmanager
def host_meter() -> Iterator[MeterOf]:
    """Resident memory of the processes that the daemon has started."""
    yield lambda daemon: lambda: _resident_bytes_below(daemon)


def _resident_bytes_below(process: int) -> int:
    total = 0
    with suppress(psutil.Error):
        for child in psutil.Process(process).children(recursive=True):
            with suppress(psutil.Error):  # it has ended since
                total += int(child.memory_info().rss)
    return total

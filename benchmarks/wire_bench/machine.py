"""What the figures were measured on: the machine, versions, and how busy others kept it meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import zmq
from qied_client.protocol import limits

from qied import __version__

_PACKAGES = ("pyzmq", "msgpack", "pillow", "numpy", "torch", "triton", "diffusers", "transformers", "safetensors")
_EXTRAS = ("nvidia-cudnn-frontend", "torchao")
"""Packages that are only named where they are installed."""


def machine_facts(folder: Path) -> dict[str, Any]:
    """Facts of this machine; ``folder`` is where the daemon keeps its state. Sizes are bytes, speeds MB/s."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "niceness": psutil.Process().nice(),
        "memory_total_bytes": psutil.virtual_memory().total,
        "state_file_system": _file_system(folder),
        "disk_write_and_sync_mb_s": round(_disk_speed(folder), 1),
        "sha256_mb_s": round(_hash_speed(), 1),
    }


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    return {
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "qied": __version__,
        **{name: found for name in (*_PACKAGES, *_EXTRAS) if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def command() -> str:
    """How this program was called; of a path from the root only its name, as the rest is this machine's business."""
    called = [Path(sys.argv[0]).as_posix(), *sys.argv[1:]]
    return shlex.join(["python", *(Path(word).name if word.startswith("/") else word for word in called)])


def without_identity(snapshot: str) -> dict[str, Any]:
    """A machine's snapshot (JSON) without what tells one card of a kind from another, and who else uses it."""
    facts: dict[str, Any] = json.loads(snapshot)
    facts["gpus"] = [{**gpu, "uuid": None, "processes": []} for gpu in facts["gpus"]]
    return facts


class Neighbours:
    """Says how many cores other programs kept busy since it was made; above some 0.1 figures are not to be trusted."""

    def __init__(self) -> None:
        self._busy, self._own = _busy_seconds(), _own_seconds()
        self._since = time.monotonic()

    def cores(self) -> float:
        """Cores that were busy with something else, on average; processes that have ended count as somebody else's."""
        elapsed = time.monotonic() - self._since
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return round(max(0.0, others / elapsed), 2)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_seconds() -> float:
    total = 0.0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    path = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _disk_speed(folder: Path) -> float:
    data = os.urandom(limits.BLOB_BYTES)
    file = folder / f"qied-speed-{os.getpid()}"
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for offset in range(0, len(data), limits.CHUNK_BYTES):
                os.write(descriptor, data[offset : offset + limits.CHUNK_BYTES])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            file.unlink()
        best = max(best, len(data) / (time.perf_counter() - started) / 1e6)
    return best


def _hash_speed() -> float:
    data = bytes(16 << 20)
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        hashlib.sha256(data).digest()
        best = max(best, len(data) / (time.perf_counter() - started) / 1e6)
    return best

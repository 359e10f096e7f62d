"""The host side of a snapshot: system, memory, limits, processors, and the versions of installed packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path

import psutil
from qied_client.errors import SystemUnsupported

from qied.hardware import cgroups
from qied.hardware.snapshot import Host, System

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

PACKAGES = (
    "diffusers",
    "transformers",
    "safetensors",
    "tokenizers",
    "accelerate",
    "triton",
    "numpy",
    "pillow",
    "pyzmq",
    "msgpack",
    "psutil",
    "nvidia-ml-py",
    "nvidia-cudnn-frontend",
)
"""Distributions whose versions a decision or a finding may depend on."""


def read_system() -> System:
    """The operating system and this Python."""
    return System(system=platform.system(), release=platform.release(), python=platform.python_version())


def read_host(membership: str | None = None, mount: Path = cgroups.MOUNT) -> Host:
    """Memory in bytes and processors. ``membership`` and ``mount`` stand for the control groups of this process."""
    groups = cgroups.read_membership() if membership is None else membership
    memory = psutil.virtual_memory()
    limit = cgroups.memory_limit(groups, mount)
    limited = limit is not None and limit < memory.total
    return Host(
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        memory_limit_bytes=limit if limited else None,
        memory_limit_used_bytes=cgroups.memory_used(groups, mount) if limited else None,
        memlock_limit_bytes=_memlock_limit(),
        cpu_count=_cpus(cgroups.cpu_limit(groups, mount)),
    )


def read_packages() -> dict[str, str | None]:
    """Installed versions, without importing anything; None for what is not installed."""
    return {name: installed_version(name) for name in PACKAGES}


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None where there is none, or its metadata is damaged."""
    try:
        version: str | None = importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, OSError, KeyError):
        return None
    return version


def process_name(pid: int) -> str | None:
    """The name of a running program; None where it is gone, or belongs to somebody whose programs are hidden."""
    with suppress(psutil.Error, OSError):
        return str(psutil.Process(pid).name())
    return None


def _memlock_limit() -> int | None:
    """Bytes that this process may lock (POSIX); None for no limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def _cpus(limit: int | None) -> int | None:
    """Processors that this process may use: those it is bound to, within the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = [count for count in (usable, limit) if count]
    return min(counts, default=None)


NATIVE_WINDOWS = "Windows"
"""What ``platform.system`` says there; under WSL2 it says Linux."""
SAID = "The qied daemon does not run on Windows itself; on Windows it runs under WSL2."
REMEDY = (
    "Run 'wsl --install' in PowerShell, then install and start qied in the Linux that it opens, as on any Linux; "
    "clients on Windows reach it from outside."
)


def refuse_native_windows(system: str | None = None) -> None:
    """Raise SystemUnsupported on Windows itself; ``system`` is this machine's unless it is given."""
    if (platform.system() if system is None else system) == NATIVE_WINDOWS:
        raise SystemUnsupported(SAID, REMEDY)


def boot_id(path: Path = _BOOT_ID) -> str:
    """A name that is another after each start of the machine (Linux); "" where the system has none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:64]
    except OSError:
        return ""

"""Limits of the control group that this process runs in (a container's memory and processors), version 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
_UNLIMITED_BYTES = 2**60
"""Version 1 says "no limit" with the largest page-aligned integer."""
_USAGE = {
    "memory.max": ("memory.current", "inactive_file"),
    "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
}
"""By the file of a limit: that of the bytes in use, and the name of those of them that the kernel would drop first."""


def memory_limit(membership: str, mount: Path = MOUNT) -> int | None:
    """The smallest memory limit on the way to the root, in bytes; None where there is none."""
    limits = [
        value
        for folder, name in _places(membership, mount, "memory", "memory.max", "memory.limit_in_bytes")
        if (value := _bytes(_text(folder / name))) is not None
    ]
    return min(limits, default=None)


def memory_used(membership: str, mount: Path = MOUNT) -> int | None:
    """Bytes that the group with the smallest limit takes, without files that have not been read lately.

    None where there is no limit, or the kernel does not say.
    """
    limited = [
        (value, folder, name)
        for folder, name in _places(membership, mount, "memory", "memory.max", "memory.limit_in_bytes")
        if (value := _bytes(_text(folder / name))) is not None
    ]
    if not limited:
        return None
    _, folder, name = min(limited, key=lambda place: place[0])
    usage, cache = _USAGE[name]
    taken = _bytes(_text(folder / usage))
    return None if taken is None else max(0, taken - _statistic(folder / "memory.stat", cache))


def oom_counter(membership: str, mount: Path = MOUNT) -> Path | None:
    """The file of the innermost group that counts its processes killed for lack of memory; None where none does."""
    for folder, name in _places(membership, mount, "memory", "memory.events", "memory.oom_control"):
        if any(line.startswith("oom_kill ") for line in _text(folder / name).splitlines()):
            return folder / name
    return None


def cpu_limit(membership: str, mount: Path = MOUNT) -> int | None:
    """The smallest processor quota on the way to the root, rounded up to whole processors; None where there is none."""
    quotas: list[float] = []
    for folder, name in _places(membership, mount, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        text = _text(folder / name)
        if name == "cpu.cfs_quota_us" and text:
            text = f"{text} {_text(folder / 'cpu.cfs_period_us')}"
        if (quota := _quota(text)) is not None:
            quotas.append(quota)
    return max(1, math.ceil(min(quotas))) if quotas else None


def read_membership(path: Path = MEMBERSHIP) -> str:
    """The control groups of this process as the kernel tells them; empty where the system has none."""
    return _text(path)


def parse_membership(text: str) -> Mapping[str, PurePosixPath]:
    """Path of the group per controller; version 2 is under the empty name."""
    groups: dict[str, PurePosixPath] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = PurePosixPath(parts[2])
    return groups


def _places(membership: str, mount: Path, controller: str, v2: str, v1: str) -> Iterator[tuple[Path, str]]:
    """Folders and file names to read. A container sees its own group at the mount, whatever path it is told."""
    groups = parse_membership(membership)
    if "" in groups:
        for root in (mount, mount / "unified"):
            yield from ((folder, v2) for folder in _upwards(root, groups[""]))
    if controller in groups:
        yield from ((folder, v1) for folder in _upwards(mount / controller, groups[controller]))


def _upwards(root: Path, group: PurePosixPath) -> Iterator[Path]:
    names = [] if ".." in group.parts else [part for part in group.parts if part != "/"]
    for depth in range(len(names), -1, -1):
        yield root.joinpath(*names[:depth])


def _bytes(text: str) -> int | None:
    if not text.isdecimal() or int(text) >= _UNLIMITED_BYTES:
        return None
    return int(text)


def _statistic(path: Path, name: str) -> int:
    """One number of memory.stat; 0 where it is not there."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _bytes(value) or 0
    return 0


def _quota(text: str) -> float | None:
    """Microseconds of processor time in a period, as processors; "max" and -1 mean all."""
    parts = text.split()
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""

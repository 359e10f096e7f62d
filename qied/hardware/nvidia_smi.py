"""NVIDIA cards as the program nvidia-smi prints them: the second source, where NVML cannot be loaded (WSL, say)."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from qied.hardware.nvml import Cards
from qied.hardware.snapshot import Driver, Gpu, GpuProcess, Pcie

CARD_FIELDS = (
    "index",
    "uuid",
    "name",
    "driver_version",
    "memory.total",
    "memory.free",
    "display_active",
    "pcie.link.gen.current",
    "pcie.link.width.current",
    "pcie.link.gen.max",
    "pcie.link.width.max",
    "compute_cap",
)
"""The last one is refused by drivers before 510, and then left out."""
USUAL_FOLDERS = ("/usr/lib/wsl/lib", "/usr/bin", "/usr/local/nvidia/bin", "C:/Windows/System32")
PROCESS_FIELDS = ("gpu_uuid", "pid", "process_name", "used_memory")

_MIB = 1024**2
_LIMIT_S = 10.0
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d+\.\d+)")

Run = Callable[[list[str]], str | None]
"""Gives the output of nvidia-smi with these arguments; None where it fails."""


def find_nvidia_smi(environ: Mapping[str, str], folders: tuple[str, ...] = USUAL_FOLDERS) -> Path | None:
    """The program, on PATH or in the ``folders`` where drivers put it."""
    for path in (environ.get("PATH"), *folders):
        if path and (found := shutil.which("nvidia-smi", path=path)):
            return Path(found)
    return None


def runner(program: Path) -> Run:
    """Runs ``program`` within a time limit."""

    def run(arguments: list[str]) -> str | None:
        try:
            done = subprocess.run(
                [program, *arguments], capture_output=True, check=False, timeout=_LIMIT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    return run


def read_nvidia_smi(run: Run) -> Cards:
    """Ask nvidia-smi for everything that the snapshot holds."""
    fields: tuple[str, ...] = CARD_FIELDS
    listing = run(_query("gpu", fields))
    if listing is None:
        fields = CARD_FIELDS[:-1]
        listing = run(_query("gpu", fields))
    if listing is None:
        return Cards(answered=False)
    processes = parse_processes(run(_query("compute-apps", PROCESS_FIELDS)) or "")
    rows = list(_rows(listing, fields))
    gpus = tuple(_card(row, processes) for row in rows)
    version = next((text for row in rows if (text := _known(row["driver_version"]))), None)
    driver = None if version is None else Driver(version=version, cuda=parse_cuda_version(run([]) or ""))
    return Cards(driver=driver, gpus=gpus)


def parse_processes(listing: str) -> Mapping[str, tuple[GpuProcess, ...]]:
    """Programs per card's UUID, from a listing of PROCESS_FIELDS."""
    found: dict[str, tuple[GpuProcess, ...]] = {}
    for row in _rows(listing, PROCESS_FIELDS):
        pid = _number(row["pid"])
        if pid is not None:
            name = _known(row["process_name"])
            process = GpuProcess(
                pid=pid,
                name=None if name is None else re.split(r"[/\\]", name)[-1],
                used_bytes=_mib(row["used_memory"]),
            )
            found[row["gpu_uuid"]] = (*found.get(row["gpu_uuid"], ()), process)
    return found


def parse_cuda_version(report: str) -> str | None:
    """The driver's CUDA from the head of nvidia-smi's own report."""
    match = _CUDA.search(report)
    return match[1] if match else None


def _query(kind: str, fields: tuple[str, ...]) -> list[str]:
    return [f"--query-{kind}={','.join(fields)}", "--format=csv,noheader,nounits"]


def _rows(listing: str, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows with exactly these fields; other lines are warnings."""
    for row in csv.reader(listing.splitlines(), skipinitialspace=True):
        if len(row) == len(fields):
            yield {field: cell.strip() for field, cell in zip(fields, row, strict=True)}


def _card(row: dict[str, str], processes: Mapping[str, tuple[GpuProcess, ...]]) -> Gpu:
    link = Pcie(
        generation=_number(row["pcie.link.gen.current"]) or None,
        width=_number(row["pcie.link.width.current"]) or None,
        generation_max=_number(row["pcie.link.gen.max"]) or None,
        width_max=_number(row["pcie.link.width.max"]) or None,
    )
    display = _known(row["display_active"])
    return Gpu(
        index=_number(row["index"]) or 0,
        uuid=_known(row["uuid"]),
        name=_known(row["name"]) or "unknown NVIDIA card",
        compute_capability=_capability(row.get("compute_cap", "")),
        memory_total_bytes=_mib(row["memory.total"]),
        memory_free_bytes=_mib(row["memory.free"]),
        display_active=None if display is None else display == "Enabled",
        pcie=None if link == Pcie() else link,
        processes=processes.get(row["uuid"], ()),
    )


def _known(text: str) -> str | None:
    """nvidia-smi writes unknown values in brackets: [N/A], [Not Supported], [Unknown Error]."""
    return None if not text or text.startswith("[") or text == "N/A" else text


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _mib(text: str) -> int | None:
    number = _number(text)
    return None if number is None else number * _MIB


def _capability(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None

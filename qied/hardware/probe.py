"""The probe: one snapshot of this machine, put together from NVML, CUDA, the host and the installed packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from qied.hardware import nvidia_smi
from qied.hardware.cache import FactCache
from qied.hardware.cuda_driver import CudaAnswer, ask_cuda
from qied.hardware.host import process_name, read_host, read_packages, read_system
from qied.hardware.nvml import Cards, read_nvml
from qied.hardware.snapshot import Driver, Problem, Snapshot
from qied.hardware.torch_facts import find_torch, read_torch
from qied.hardware.user_folders import user_cache_folder
from qied.hardware.visibility import choose_visible

_MODULE_VERSION = re.compile(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s")


@dataclass(frozen=True)
class ProbeSources:
    """Where the system shows drivers and cards, besides NVML."""

    nvidia_smi: tuple[str, ...] = nvidia_smi.USUAL_FOLDERS
    kernel_module: Path = Path("/proc/driver/nvidia/version")
    pci_devices: Path = Path("/sys/bus/pci/devices")


_USUAL = ProbeSources()


def probe(
    environ: Mapping[str, str], cache_folder: Path | None = None, *, read_only: bool = False, nvml: Any = pynvml
) -> Snapshot:
    """Look at this machine; nothing is run on a card, and torch is imported by a child process, if at all.

    ``environ`` tells which cards are visible, and child processes get it; ``cache_folder`` is by default the user's,
    and nothing is kept there with ``read_only``; ``nvml`` is the module pynvml or what behaves like it. Raises
    ConfigError where no cache folder is given and the user has none.
    """
    cards = read_cards(environ, nvml)
    cache = FactCache(cache_folder or user_cache_folder(), "torch", read_only=read_only)
    with ThreadPoolExecutor(max_workers=2) as pool:
        torch = pool.submit(read_torch, cache, environ, package=find_torch(), with_card=bool(cards.gpus))
        cuda = pool.submit(ask_cuda, environ) if cards.gpus else None
        host, packages = read_host(), read_packages()
        answer = CudaAnswer() if cuda is None else cuda.result()
        installed = torch.result()
    gpus, problems = choose_visible(cards.gpus, environ, answer)
    return Snapshot(
        os=read_system(),
        host=host,
        driver=cards.driver,
        torch=installed.torch,
        packages=packages,
        gpus=gpus,
        problems=(*cards.problems, *problems, *installed.problems),
    )


def read_cards(environ: Mapping[str, str], nvml: Any, places: ProbeSources = _USUAL) -> Cards:
    """Driver and all cards: through NVML, else nvidia-smi, else what the kernel alone can tell (Linux)."""
    cards = read_nvml(nvml, process_name)
    if cards.answered:
        return cards
    program = nvidia_smi.find_nvidia_smi(environ, places.nvidia_smi)
    if program is not None:
        told = nvidia_smi.read_nvidia_smi(nvidia_smi.runner(program))
        if told.answered:
            return told
    return _without_management(cards, places)


def parse_kernel_module(text: str) -> str | None:
    """The version of the loaded driver from /proc/driver/nvidia/version."""
    match = _MODULE_VERSION.search(text)
    return match[1] if match else None


def nvidia_cards_on_bus(devices: Path) -> int:
    """Display controllers of NVIDIA on the PCI bus (Linux), whether a driver serves them or not."""
    return sum(1 for device in _folders(devices) if _is_nvidia_display(device))


def _without_management(cards: Cards, places: ProbeSources) -> Cards:
    """Without NVML there may still be a kernel module, or a card that nothing drives."""
    try:
        version = parse_kernel_module(places.kernel_module.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        version = None
    problems = cards.problems
    if version is not None and not problems:
        problems = (
            Problem(code="nvml_failed", message="The NVIDIA driver is loaded but its library NVML is not found."),
        )
    if version is None and not problems and (count := nvidia_cards_on_bus(places.pci_devices)):
        text = f"{count} NVIDIA card{'s are' if count > 1 else ' is'} in this machine but no NVIDIA driver is loaded."
        problems = (Problem(code="no_driver", message=text),)
    return Cards(answered=False, driver=Driver(version=version) if version else None, problems=problems)


def _folders(devices: Path) -> Iterator[Path]:
    try:
        yield from sorted(devices.iterdir())
    except OSError:
        return


def _is_nvidia_display(device: Path) -> bool:
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
        kind = (device / "class").read_text(encoding="ascii").strip()
    except OSError:
        return False
    return vendor == "0x10de" and kind.startswith("0x03")

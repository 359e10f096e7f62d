"""Prints the options with which pip gets a build of torch that fits this machine; for the Makefile, without packages.

On Linux x86-64 the public index has torch for NVIDIA cards alone, with gigabytes of CUDA libraries. Where there is no
card, PyTorch's own index has a build for the CPU; where that index cannot be reached, the public one serves too.
``TORCH=cpu``, ``TORCH=cuda`` or the address of an index decides instead.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_CARDS = ("/dev/nvidiactl", "/dev/dxg")
"""Device files of NVIDIA's driver: on Linux, and under WSL2."""
_TIMEOUT_S = 10.0


def options(environ: Mapping[str, str], has_card: bool, reachable: Callable[[str], bool]) -> tuple[list[str], str]:
    """Options of ``pip install torch`` here, and the reason in words."""
    wanted = environ.get("TORCH", "")
    if wanted == "cuda":
        return [], "TORCH=cuda: the build for NVIDIA cards"
    if wanted and wanted != "cpu":
        return ["--extra-index-url", wanted], f"TORCH: from {wanted}"
    if not wanted and has_card:
        return [], "a card was found: the build for NVIDIA cards"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return [], "the public index has a build for this system"
    if wanted or reachable(CPU_INDEX):
        return ["--extra-index-url", CPU_INDEX], "no card: the build for the CPU"
    return [], f"no card, and {CPU_INDEX} cannot be reached: whatever build pip finds"


def _has_card() -> bool:
    return any(Path(path).exists() for path in _CARDS) or shutil.which("nvidia-smi") is not None


def _reachable(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    found, why = options(os.environ, _has_card(), _reachable)
    print(f"torch: {why}", file=sys.stderr)
    print(" ".join(found))

"""What driver, torch and card must have for each other: version floors and kernels. Pure.

Sources: NVIDIA's CUDA release notes (minor-version compatibility) and cuDNN's documentation, torch's ``get_arch_list``,
and the requirements of ``torch._scaled_mm``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Capability = tuple[int, int]

LOWEST_CAPABILITY: Capability = (7, 5)
"""Turing. Older cards have neither BF16 nor integer dot products that anybody still builds for."""
LOWEST_BF16: Capability = (8, 0)
LOWEST_FP8: Capability = (8, 9)
LOWEST_FP8_ATTENTION: Capability = (9, 0)
"""Hopper: what cuDNN's attention in FP8 asks for."""

_DRIVER_FLOORS = {
    12: {"Linux": "525.60.13", "Windows": "527.41"},
    13: {"Linux": "580", "Windows": "580"},
}
"""Lowest driver that runs any torch of a CUDA major version (minor-version compatibility)."""
FP8_DRIVER = "535.104.05"
FP8_CUDA = "12.1"
FP8_ROWWISE_TORCH: dict[Capability, str] = {(8, 9): "2.7", (9, 0): "2.5"}
FP8_TORCH = "2.3"


def version_numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: ``2.13.0+cu126`` gives (2, 13, 0); () where there is none."""
    found = re.match(r"\s*(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def at_least(version: str, floor: str) -> bool:
    """Whether ``version`` is ``floor`` or newer; missing numbers count as 0."""
    have, need = version_numbers(version), version_numbers(floor)
    length = max(len(have), len(need))
    return have + (0,) * (length - len(have)) >= need + (0,) * (length - len(need))


def driver_floor(torch_cuda: str, system: str) -> str | None:
    """Lowest driver for a torch build's CUDA (``12.6``), or None where no floor is known."""
    numbers = version_numbers(torch_cuda)
    floors = _DRIVER_FLOORS.get(numbers[0]) if numbers else None
    return None if floors is None else floors.get(system, floors["Linux"])


def has_kernels(arch_list: Sequence[str], capability: Capability) -> bool:
    """Whether a torch with these architectures runs on the card.

    Machine code (``sm_86``) runs on cards of the same major and an equal or higher minor version; ``sm_90a`` only on
    its own; intermediate code (``compute_90``) is compiled for anything that is as new or newer.
    """
    for arch in arch_list:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if found is None:
            continue
        kind, suffix = found[1], found[4]
        built = (int(found[2]), int(found[3]))
        if suffix == "a":
            fits = built == capability
        elif kind == "compute":
            fits = built <= capability
        else:
            fits = built[0] == capability[0] and built[1] <= capability[1]
        if fits:
            return True
    return False

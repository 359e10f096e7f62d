"""Facts that only an imported torch can give; collected without touching a card."""

from __future__ import annotations

import torch


def facts() -> dict[str, object]:
    """Kernels in this build, such as ``sm_90``, and the version of cuDNN."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"arch_list": _arch_list(), "cudnn": cudnn_version(cudnn)}


def cudnn_version(number: int | None) -> str | None:
    """cuDNN counts 10000 for a major version since 9, and 1000 before: 91002 is 9.10.2, 8907 is 8.9.7."""
    if number is None:
        return None
    major = 10_000 if number >= 90_000 else 1000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def _arch_list() -> list[str]:
    """``torch.cuda.get_arch_list`` is empty where no card is visible; the build's own flags are not."""
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    return str(flags() or "").split() if flags is not None else list(torch.cuda.get_arch_list())

"""Whether this machine has an NVIDIA card, found out without importing anything large."""

from __future__ import annotations

from pathlib import Path


def has_card_device(root: Path = Path("/")) -> bool:
    """Whether the system shows a device of the NVIDIA driver; ``root`` stands for its root folder.

    WSL2's device is that of any maker's cards, so there the driver's library, which Windows lends, counts as well.
    """
    if (root / "dev/nvidiactl").exists():
        return True
    return (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists()

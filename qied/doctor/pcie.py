"""What a PCIe link can carry."""

from __future__ import annotations

from typing import Final

_LANE_BYTES_PER_S: Final = {
    1: 250_000_000,
    2: 500_000_000,
    3: 984_600_000,
    4: 1_969_200_000,
    5: 3_938_500_000,
    6: 7_563_000_000,
}
"""One lane in one direction, line coding taken off (PCI-SIG's figures); packets cost another 10 to 15 %."""


def link_bytes_per_s(generation: int, width: int) -> int:
    """Bytes a second in one direction; a generation newer than those known counts as the newest known."""
    return _LANE_BYTES_PER_S[min(generation, max(_LANE_BYTES_PER_S))] * width

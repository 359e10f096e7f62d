"""Which cards CUDA_VISIBLE_DEVICES leaves, and how a worker is given one card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qied.hardware.snapshot import Gpu

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


def visible(gpus: Sequence[Gpu], value: str | None) -> tuple[Gpu, ...]:
    """What CUDA would list, in its order; ``value`` is the variable, None where it is not set.

    Entries are indices in PCI order, UUIDs or the beginning of one. As in CUDA, the first entry that names no card
    ends the list. Indices count whole cards; where MIG is on, an index stands for the first instance of the card.
    """
    if value is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for entry in value.split(","):
        found = _named(gpus, entry.strip())
        if found is None:
            break
        if found not in chosen:
            chosen.append(found)
    return tuple(chosen)


def in_cuda_order(gpus: Sequence[Gpu], uuids: Sequence[str]) -> tuple[Gpu, ...]:
    """The cards that CUDA itself listed, in its order; ``uuids`` come without their ``GPU-`` or ``MIG-``."""
    by_uuid = {gpu.uuid.partition("-")[2]: gpu for gpu in gpus if gpu.uuid is not None}
    return tuple(by_uuid[uuid] for uuid in uuids if uuid in by_uuid)


def select_card(gpu: Gpu) -> Mapping[str, str]:
    """Environment variables under which a program sees this card alone, as its first."""
    if gpu.uuid is not None:
        return {VARIABLE: gpu.uuid}
    return {VARIABLE: str(gpu.index), ORDER: "PCI_BUS_ID"}


def named_cards(gpus: Sequence[Gpu], entries: Sequence[str]) -> tuple[Gpu, ...]:
    """The cards that ``entries`` name, in the order of ``gpus``: indices, UUIDs, or the beginning of one UUID.

    An index stands for the whole card, with all of its MIG instances. Raises ValueError for an entry that names no
    card, or several.
    """
    wanted: list[Gpu] = []
    for entry in entries:
        found = [gpu for gpu in gpus if _is_named(gpu, entry)]
        if not found:
            raise ValueError(f"there is no card {entry}")
        if len(found) > 1 and not entry.isdecimal():
            raise ValueError(f"{entry} is the beginning of {len(found)} UUIDs")
        wanted += found
    return tuple(gpu for gpu in gpus if gpu in wanted)


def _is_named(gpu: Gpu, entry: str) -> bool:
    return gpu.index == int(entry) if entry.isdecimal() else gpu.uuid is not None and gpu.uuid.startswith(entry)


def _named(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    if entry.isdecimal():
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    matches = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None

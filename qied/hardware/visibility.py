"""Which cards CUDA_VISIBLE_DEVICES leaves, and how a worker is given one card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qied.hardware.cuda_driver import CudaAnswer
from qied.hardware.snapshot import Gpu, Problem

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


def choose_visible(
    gpus: tuple[Gpu, ...], environ: Mapping[str, str], cuda: CudaAnswer
) -> tuple[tuple[Gpu, ...], tuple[Problem, ...]]:
    """The cards that programs get, in CUDA's order where it answered, and what is wrong with that."""
    wanted = environ.get(VARIABLE)
    by_rule = visible(gpus, wanted)
    if not by_rule:
        hidden = f"{VARIABLE}={wanted} hides every card of this machine."
        return (), (Problem(code="gpus_hidden", message=hidden),) if gpus else ()
    if not cuda.uuids:
        reason = cuda.error or "it finds no card"
        return by_rule, (Problem(code="cuda_failed", message=f"CUDA does not work: {reason}."),)
    if any(gpu.uuid is None for gpu in by_rule):
        return by_rule, _uncounted(by_rule, len(cuda.uuids))
    listed = in_cuda_order(gpus, cuda.uuids)
    # CUDA lists one MIG instance only, but any can be selected.
    instances = tuple(gpu for gpu in by_rule if _is_instance(gpu) and gpu not in listed)
    missed = tuple(gpu for gpu in by_rule if not _is_instance(gpu) and gpu not in listed)
    # Indices may mean other cards to CUDA than by the rule: then as many are listed, and none is missed.
    whole = sum(not _is_instance(gpu) for gpu in by_rule)
    if len(listed) - sum(map(_is_instance, listed)) >= whole:
        missed = ()
    return (*listed, *instances), tuple(map(_missed, missed))


def _is_instance(gpu: Gpu) -> bool:
    return (gpu.uuid or "").startswith("MIG-")


def _missed(gpu: Gpu) -> Problem:
    text = f"The driver shows {gpu.name} (card {gpu.index}), but CUDA does not offer it to programs."
    return Problem(code="cuda_misses_card", message=text)


def _uncounted(gpus: tuple[Gpu, ...], listed: int) -> tuple[Problem, ...]:
    """Cards without uuid cannot be told from each other, but counted."""
    if listed >= len(gpus):
        return ()
    names = ", ".join(f"{gpu.name} (card {gpu.index})" for gpu in gpus)
    text = f"CUDA offers programs only {listed} of these {len(gpus)} cards: {names}."
    return (Problem(code="cuda_misses_card", message=text),)


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

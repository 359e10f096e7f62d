"""A second precision next to the daemon's own, for passes that name it: BF16, streamed from host memory. Pure.

It never decides what the daemon itself runs in: where it does not fit next to that, it is left out, and the plan says
why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qied_client.text import gib

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.budget import host_capacity
from qied.planning.choosing.case import PlanRequest
from qied.planning.choosing.pinning import pinnable_bytes
from qied.planning.layout.memory import RING_SLOTS, MemoryModel, model_of
from qied.planning.plan import Execution, Plan, Refusal, SecondPrecision
from qied.planning.wishes import Wishes


def planned_with_second(
    snapshot: Snapshot, request: PlanRequest, make: Callable[[bool], Plan | Refusal]
) -> Plan | Refusal:
    """The plan with a second precision where that was asked for and is had, else the one without it and the reason.

    ``make`` plans with it (True) or without.
    """
    plain = make(False)
    if not isinstance(plain, Plan) or not asks_for_second(request.wishes) or plain.execution.precision == "bf16":
        return plain
    why = _refused(request, plain.execution)
    if not why:
        beside = make(True)
        if _is_beside(plain, beside):
            return beside
        why = _short_of(snapshot, request, plain)
    wished = request.wishes.second_precision
    warning = f"model.second_precision is {wished}, but passes have no other precision than the daemon's: {why}."
    return replace(plain, warnings=(*plain.warnings, warning))


def asks_for_second(wishes: Wishes) -> bool:
    """Whether a person wants a second precision."""
    return wishes.second_precision != "off"


def second_of(memory: MemoryModel, snapshot: Snapshot, pinned_bytes: int) -> SecondPrecision | None:
    """How a second precision runs that ``memory`` has, where ``pinned_bytes`` of the host are pinned for the first."""
    if not memory.second:
        return None
    pin = memory.device == "cuda" and pinned_bytes + memory.second_host_bytes <= pinnable_bytes(snapshot)
    return SecondPrecision("bf16", RING_SLOTS if memory.device == "cuda" else 0, pin)


def second_reasons(memory: MemoryModel) -> list[str]:
    """What a second precision takes, where there is one."""
    if not memory.second:
        return []
    taken = gib(memory.second_device_bytes)
    if memory.device == "cuda":
        taken = f"{gib(memory.second_host_bytes)} of host memory, and {taken} of the card to stream through"
    return [f"passes may name BF16 as well: its blocks take {taken}"]


def _is_beside(plain: Plan, found: Plan | Refusal) -> bool:
    """Whether a plan has the second precision, and the first as it would be without."""
    if not isinstance(found, Plan) or found.execution.second is None:
        return False
    return (found.precision, found.scaling) == (plain.precision, plain.scaling)


def _refused(request: PlanRequest, execution: Execution) -> str:
    """Why BF16 cannot be held next to an execution, whatever the memory, a clause; "" where it can."""
    if request.second_refused:
        return request.second_refused
    if execution.compute != "bf16":
        return f"it computes in {execution.compute.upper()}"
    return ""


def _short_of(snapshot: Snapshot, request: PlanRequest, plain: Plan) -> str:
    run, capacity = plain.execution, host_capacity(snapshot)
    memory = replace(model_of(run, request.model), second=True)
    # Pictures are decoded in what is left.
    needed = plain.host_bytes - plain.decoding_bytes + memory.second_host_bytes
    if capacity is not None and run.device == "cuda" and needed > capacity:
        return f"with BF16 as well the worker needs {gib(needed)} of host memory, and {gib(capacity)} are free"
    return f"the blocks in BF16 need {gib(memory.second_device_bytes)} more of its memory"

"""Checks of the machine around the card: memory, the container's limit, and how much may be pinned."""

from __future__ import annotations

from qied_client.text import size_text

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning
from qied.doctor.pcie import link_bytes_per_s
from qied.hardware.snapshot import Gpu
from qied.planning.plan import Refusal

_PINNED_SHARE = 0.5
"""Share of the link's rate that only copies from pinned memory reach."""


def shortage(facts: Facts) -> str | None:
    """Which check tells that the host's memory was too small for any plan; None where it was not."""
    if not isinstance(facts.plan, Refusal) or facts.plan.code != "host_memory_too_small":
        return None
    host = facts.snapshot.host
    if host.memory_limit_bytes is None:
        return "host.memory"
    left = host.memory_limit_bytes - (host.memory_limit_used_bytes or 0)
    available = host.memory_available_bytes
    return "host.container" if available is None or left < available else "host.memory"


def memory(facts: Facts) -> Verdict:
    """The host has the memory that the plan needs."""
    if isinstance(facts.plan, Refusal) and shortage(facts) == "host.memory":
        return error(facts.plan.message, facts.plan.remedy)
    host, plan = facts.snapshot.host, facts.made_plan
    if host.memory_total_bytes is None:
        return skipped("The host's memory is not known.")
    if plan is None:
        return skipped(f"{size_text(host.memory_total_bytes)}; there is no plan to compare it with.")
    if host.memory_total_bytes < plan.host_bytes:
        return error(
            f"The plan needs {size_text(plan.host_bytes)} of host memory; "
            f"there is {size_text(host.memory_total_bytes)}.",
            "Add memory, or use an FP8 checkpoint, which needs half.",
        )
    available = host.memory_available_bytes
    if available is not None and available < plan.host_bytes:
        return warning(
            f"The plan needs {size_text(plan.host_bytes)} of host memory; {size_text(available)} is free now.",
            "Close other programs before 'qied serve'.",
        )
    return ok(f"{size_text(host.memory_total_bytes)} of host memory; the plan needs {size_text(plan.host_bytes)}.")


def container(facts: Facts) -> Verdict:
    """A container's limit leaves room for the plan."""
    host, plan = facts.snapshot.host, facts.made_plan
    limit = host.memory_limit_bytes
    if limit is not None and isinstance(facts.plan, Refusal) and shortage(facts) == "host.container":
        return error(
            f"This container may use {size_text(limit)} of memory. {facts.plan.message}",
            f"Start the container with a higher --memory, or without a limit. {facts.plan.remedy}",
        )
    if limit is None or (host.memory_total_bytes is not None and limit >= host.memory_total_bytes):
        return ok("No container limits the memory.")
    if plan is not None and plan.host_bytes > limit:
        return error(
            f"This container may use {size_text(limit)} of memory; the plan needs {size_text(plan.host_bytes)}.",
            f"Start the container with --memory {-(-plan.host_bytes // 1024**3)}g or more.",
        )
    return ok(f"This container may use {size_text(limit)} of memory.")


def memlock(facts: Facts) -> Verdict:
    """What the plan pins may be pinned."""
    limit, plan = facts.snapshot.host.memlock_limit_bytes, facts.made_plan
    if not facts.gpus:
        return skipped("There is no card, so nothing is pinned.")
    if limit is None:
        return ok("Memory may be pinned without a limit.")
    if plan is None:
        return skipped(f"{size_text(limit)} may be pinned; there is no plan to compare it with.")
    if limit >= plan.pinned_bytes:
        return ok(f"{size_text(limit)} may be pinned; the plan pins {size_text(plan.pinned_bytes)}.")
    if any(map(_copies_fast, facts.gpus)):
        return ok(f"Copies to the card are fast, whatever the limit of {size_text(limit)} says.")
    return warning(
        f"{size_text(limit)} may be pinned, and the plan wants {size_text(plan.pinned_bytes)}.",
        "Raise it: ulimit -l unlimited; in a container --ulimit memlock=-1; for a service LimitMEMLOCK=infinity.",
    )


def _copies_fast(gpu: Gpu) -> bool:
    """Whether the measured rate can only come from pinned memory."""
    link, test = gpu.pcie, gpu.selftest
    if link is None or test is None or test.host_to_device_bytes_per_s is None or link.width is None:
        return False
    generation = link.generation_max or link.generation
    return generation is not None and (
        test.host_to_device_bytes_per_s >= _PINNED_SHARE * link_bytes_per_s(generation, link.width)
    )


CHECKS = (
    Check("host.memory", "What does not fit on the card waits in the host's memory.", memory),
    Check("host.container", "A container that exceeds its limit is killed silently.", container),
    Check(
        "host.memlock",
        "Copies from memory that is not pinned are slower, many times so if none may be pinned.",
        memlock,
    ),
)

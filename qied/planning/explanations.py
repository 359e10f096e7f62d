"""Why a plan is as it is: reasons, warnings, and the source of each value. Pure."""

from __future__ import annotations

from qied.planning.budget import Budget
from qied.planning.candidates import Candidate
from qied.planning.case import Case
from qied.planning.hardware_profile import LoadedProfile
from qied.planning.ladder import Rung
from qied.planning.plan import Execution
from qied.planning.wishes import Wishes
from qied.planning.words import GIB, gib, size_text


def residency_reason(rung: Rung, layers: int, block: int) -> str:
    """How many blocks stay and stream."""
    if rung.resident == layers:
        return f"all {layers} blocks stay on the card ({gib(layers * block)})"
    streamed = layers - rung.resident
    return f"{rung.resident} of {layers} blocks stay on the card, {streamed} stream from host memory in each forward"


def warnings_of(case: Case, chosen: Candidate, execution: Execution, block: int) -> list[str]:
    """What a person should know before they rely on a plan; ``block`` is bytes."""
    warnings = []
    if not chosen.proven:
        warnings.append(f"No self-test has run on {case.gpu.name} yet; 'qied serve' runs it before it starts.")
    streamed = (execution.total_blocks - execution.resident_blocks) * block
    if streamed:
        warnings += _streaming_warnings(case, streamed)
    others = [p for p in case.gpu.processes if (p.used_bytes or 0) >= GIB]
    if others:
        names = ", ".join(f"{p.name or 'a program'} ({gib(p.used_bytes or 0)})" for p in others[:3])
        warnings.append(f"Other programs hold memory of the card: {names}.")
    if execution.precision == "fp8-storage" and execution.compute == "fp32":
        warnings.append("This card computes in FP32 here, which is slow: expect minutes for an edit.")
    if case.snapshot.host.memory_available_bytes is None:
        warnings.append("Free host memory is not known; whether streamed blocks fit was not checked.")
    return warnings


def _streaming_warnings(case: Case, streamed: int) -> list[str]:
    warnings = []
    host, pcie, selftest = case.snapshot.host, case.gpu.pcie, case.gpu.selftest
    rate = selftest.host_to_device_bytes_per_s if selftest is not None else None
    limit = host.memlock_limit_bytes
    if limit is not None and limit < streamed and rate is None:
        warnings.append(
            f"Locked memory is limited to {size_text(limit)}: if pinning fails, copies take about three times "
            "as long. Start with 'ulimit -l unlimited' (in Docker: --ulimit memlock=-1)."
        )
    if pcie is not None and pcie.width is not None and pcie.width_max is not None and pcie.width < pcie.width_max:
        warnings.append(
            f"The card runs on {pcie.width} of {pcie.width_max} PCIe lanes: {gib(streamed)} stream in each forward. "
            "Put it in the slot that is wired fully."
        )
    return warnings


def sources_of(case: Case, wishes: Wishes) -> dict[str, str]:
    """Where each value of a card's plan came from."""
    profile = f"{'user ' if case.profile.origin == 'user' else ''}profile {case.profile.profile.name}"
    proof = "self-test" if case.gpu.selftest is not None else "compute capability"
    return {
        "precision": wishes.origin("precision", f"{profile}, {proof}"),
        "budget_bytes": case.budget.source,
        "max_pixels": wishes.origin("target_pixels", f"{profile}, within the budget"),
        "max_reference_pixels": wishes.origin("reference_pixels", f"{profile}, within the budget"),
        "sessions": wishes.origin("max_active", f"{profile}, within the budget"),
        "blocks": "what the budget leaves",
        "vae": "as large as the budget allows",
        "text_encoder": "what the budget leaves",
        "caches": wishes.origin("cache_bytes", "default"),
    }


def cpu_sources(profile: LoadedProfile, budget: Budget, wishes: Wishes) -> dict[str, str]:
    """Where each value of a plan for the CPU came from."""
    name = f"{'user ' if profile.origin == 'user' else ''}profile {profile.profile.name}"
    return {
        "precision": wishes.origin("precision", name),
        "budget_bytes": budget.source,
        "max_pixels": wishes.origin("target_pixels", name),
        "max_reference_pixels": wishes.origin("reference_pixels", name),
        "sessions": wishes.origin("max_active", name),
        "blocks": "all in memory",
        "vae": "as large as the budget allows",
        "text_encoder": "in memory",
        "caches": wishes.origin("cache_bytes", "default"),
    }

"""Why a plan is as it is: reasons, warnings, and the source of each value. Pure."""

from __future__ import annotations

from qied_client.installing import install_extra
from qied_client.text import GIB, gib, size_text

from qied.hardware.snapshot import Gpu
from qied.planning.choosing.budget import Budget
from qied.planning.choosing.candidates import LOWEST_FP8_ATTENTION, Candidate, takes_fp8_attention, why_no_fp8_attention
from qied.planning.choosing.case import CardRequest
from qied.planning.choosing.fitting import Rung
from qied.planning.choosing.pinning import pinnable_bytes
from qied.planning.layout.memory import Precisions
from qied.planning.plan import Execution, PreviewDecoder
from qied.planning.profiles.hardware_profile import LoadedProfile
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes

FP8_ATTENTION_PACKAGE = "nvidia-cudnn-frontend"
"""The optional package that attention in FP8 comes with."""


def residency_reason(rung: Rung, layers: int, block: int, *, as_stored: bool) -> str:
    """How many blocks stay, of ``block`` bytes each, and stream, and whether these are expanded each time."""
    if rung.resident == layers:
        return f"all {layers} blocks stay on the card ({gib(layers * block)})"
    streamed = layers - rung.resident
    form = " as their file has them" if as_stored else ""
    return (
        f"{rung.resident} of {layers} blocks stay on the card, {streamed} stream from host memory{form} in each forward"
    )


def warnings_of(case: CardRequest, chosen: Candidate, execution: Execution, block: int) -> list[str]:
    """Warnings before relying on a plan; ``block`` is bytes."""
    warnings = []
    if case.gpu.selftest is None:
        warnings.append(f"No self-test has run on {case.gpu.name} yet; 'qied serve' runs it before it starts.")
    elif not chosen.proven:
        warnings.append(f"The self-test of {case.gpu.name} did not try {execution.precision}; qied probe --fresh does.")
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
        known = case.snapshot.host.memory_total_bytes is not None
        taken = "all of it is assumed to be." if known else "whether streamed blocks fit was not checked."
        warnings.append(f"How much host memory is free is not known; {taken}")
    return warnings + fp8_attention_warnings(case.request.wishes, chosen.numerics, case.gpu, case.request.model)


def fp8_attention_reasons(case: CardRequest, numerics: Precisions) -> list[str]:
    """That the attention is in FP8, what it costs, or how it could be where nothing is known against it."""
    if numerics.fp8_attention:
        return ["attention in FP8 as well: proven here and faster, at some cost in accuracy"]
    if not takes_fp8_attention(numerics) or case.request.wishes.fp8_attention != "auto":
        return []
    snapshot, capability = case.snapshot, case.gpu.compute_capability
    lacks = snapshot.packages.get(FP8_ATTENTION_PACKAGE) is None
    if not lacks or capability is None or capability < LOWEST_FP8_ATTENTION:
        return []
    install = install_extra("qied[fp8-attention]", here=False)
    return [f"attention in 16 bits: {install} lets the self-test try it in FP8"]


def fp8_attention_warnings(wishes: Wishes, numerics: Precisions, gpu: Gpu | None, model: ModelProfile) -> list[str]:
    """Why the attention is not in FP8, where that was asked for; ``gpu`` is None on the CPU."""
    asked = wishes.fp8_attention == "on"
    why = why_no_fp8_attention(numerics, gpu, model.architecture.head_dim) if asked else None
    return [] if why is None else [f"worker.fp8_attention is on, but the attention is not in FP8: {why}."]


def preview_reasons(preview: PreviewDecoder | None) -> list[str]:
    """What decodes previews, where it is not the linear map."""
    return [] if preview is None else [f"previews are decoded by the tiny autoencoder {preview.name}"]


def _streaming_warnings(case: CardRequest, streamed: int) -> list[str]:
    warnings = []
    host, pcie, selftest = case.snapshot.host, case.gpu.pcie, case.gpu.selftest
    rate = selftest.host_to_device_bytes_per_s if selftest is not None else None
    limit = host.memlock_limit_bytes
    if limit is not None and limit < streamed and rate is None:
        warnings.append(
            f"Locked memory is limited to {size_text(limit)}: if pinning fails, copies take about three times "
            "as long. Start with 'ulimit -l unlimited' (in Docker: --ulimit memlock=-1)."
        )
    if streamed > pinnable_bytes(case.snapshot):
        warnings.append(
            f"{gib(streamed)} are more than may be pinned here, so copies to the card are slower: add host memory."
        )
    if pcie is not None and pcie.width is not None and pcie.width_max is not None and pcie.width < pcie.width_max:
        warnings.append(
            f"The card runs on {pcie.width} of {pcie.width_max} PCIe lanes: {gib(streamed)} stream in each forward. "
            "Put it in a slot with all lanes wired."
        )
    return warnings


_BUDGET = "what the budget leaves"


def sources_of(case: CardRequest, rung: Rung, numerics: Precisions) -> dict[str, str]:
    """Where each value of a card's plan came from."""
    proof = "self-test" if case.gpu.selftest is not None else "compute capability"
    wishes = case.request.wishes
    return {
        "precision": wishes.origin("precision", f"{_named(case.profile)}, {proof}"),
        "budget_bytes": case.budget.source,
        **_limits(case.request.model, case.profile, wishes, rung),
        "blocks": _BUDGET if case.choice.residency == "resident-first" else _named(case.profile),
        "vae": "as large as fits",
        "text_encoder": _BUDGET,
        "text_encoder_precision": wishes.origin("text_encoder_precision", "default"),
        "second_precision": wishes.origin("second_precision", "default"),
        "caches": wishes.origin("cache_bytes", "default"),
        **_fp8_attention(wishes, numerics),
    }


def cpu_sources(
    model: ModelProfile, profile: LoadedProfile, budget: Budget, wishes: Wishes, rung: Rung, numerics: Precisions
) -> dict[str, str]:
    """Where each value of a plan for the CPU came from."""
    return {
        "precision": wishes.origin("precision", _named(profile)),
        "budget_bytes": budget.source,
        **_limits(model, profile, wishes, rung),
        "blocks": "all in memory",
        "vae": "as large as fits",
        "text_encoder": "in memory",
        "second_precision": wishes.origin("second_precision", "default"),
        "caches": wishes.origin("cache_bytes", "default"),
        **_fp8_attention(wishes, numerics),
    }


def _fp8_attention(wishes: Wishes, numerics: Precisions) -> dict[str, str]:
    return {"fp8_attention": wishes.origin("fp8_attention", "the self-test")} if numerics.fp8_attention else {}


def _limits(model: ModelProfile, profile: LoadedProfile, wishes: Wishes, rung: Rung) -> dict[str, str]:
    """What ended the rise of caps and sessions: a wish, the model, the profile, or the budget."""
    choose, geometry = profile.profile.choose, model.geometry
    return {
        "max_pixels": _ended_by(
            rung.max_pixels,
            (wishes.target_pixels, wishes.origin("target_pixels", "asked for")),
            (geometry.max_target_pixels, "the model"),
            (choose.max_pixels, _named(profile)),
        ),
        "max_reference_pixels": _ended_by(
            rung.max_reference_pixels,
            (wishes.reference_pixels, wishes.origin("reference_pixels", "asked for")),
            (geometry.vae_pixels, "the model"),
            (choose.max_reference_pixels, _named(profile)),
        ),
        "sessions": _ended_by(
            rung.sessions,
            (wishes.max_active, wishes.origin("max_active", "asked for")),
            (choose.session_limit, _named(profile)),
        ),
    }


def _ended_by(value: int, *limits: tuple[int, str]) -> str:
    """The source of the limit that a value has reached, the first of equal ones; a limit of 0 is none."""
    return next((source for limit, source in limits if limit and value == limit), _BUDGET)


def _named(profile: LoadedProfile) -> str:
    return f"{'user ' if profile.origin == 'user' else ''}profile {profile.profile.name}"

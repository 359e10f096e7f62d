"""From a machine's snapshot, profiles and wishes to a plan, or to a refusal with cause and remedy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qied_client.text import gib

from qied.hardware.snapshot import Gpu, Snapshot
from qied.planning.choosing.budget import HOST_RESERVE, cpu_budget, device_budget, host_capacity
from qied.planning.choosing.candidates import Candidate, proven_attention, shortlist
from qied.planning.choosing.case import CardRequest, PlanRequest
from qied.planning.choosing.explanations import (
    cpu_sources,
    fp8_attention_reasons,
    fp8_attention_warnings,
    preview_reasons,
    residency_reason,
    sources_of,
    warnings_of,
)
from qied.planning.choosing.fitting import Fit, Fitter, Rung, ladder
from qied.planning.choosing.pinning import pinnable_bytes
from qied.planning.choosing.refusals import (
    cpu_too_slow,
    incompatible,
    nearest_to_serving,
    no_card,
    no_daemon_there,
    no_precision,
    no_profile,
    too_little_host_memory,
    too_little_memory,
    unknown_memory,
)
from qied.planning.choosing.second_precision import planned_with_second, second_of, second_reasons
from qied.planning.choosing.text_precision import (
    asks_for_eight_bits,
    copied_text_reasons,
    text_precision_reasons,
    text_precision_warnings,
)
from qied.planning.edits.pictures import decoding_room, held_bytes, results_room
from qied.planning.layout.memory import RING_SLOTS, MemoryModel, Precisions, forwards_of, step_bytes
from qied.planning.plan import FP8_ATTENTION, Execution, Plan, Refusal, Sessions
from qied.planning.profiles.hardware_profile import Choice, match_profile
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes

__all__ = ["PlanRequest", "plan", "plan_cards", "worth"]

CPU_PARAMETERS = 2_000_000_000
"""Parameters in a transformer's blocks above which a CPU takes hours for an edit."""


def plan(snapshot: Snapshot, request: PlanRequest) -> Plan | Refusal:
    """Plan for the best card, or the one that was asked for, or the CPU."""
    if (nowhere := no_daemon_there(snapshot)) is not None:
        return nowhere
    outcomes = plan_cards(snapshot, request)
    plans = [outcome for outcome in outcomes if isinstance(outcome, Plan)]
    if plans:
        return max(plans, key=worth)
    wishes, fits_cpu = request.wishes, not _too_large_for_cpu(request.model)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    card_wanted = wishes.device == "cuda" or wishes.gpu is not None
    if not card_wanted and (wishes.device == "cpu" or fits_cpu):
        return planned_with_second(
            snapshot, request, lambda second: _plan_cpu(snapshot, request, refusals, second=second)
        )
    return nearest_to_serving(refusals) if refusals else no_card(snapshot, request.model, wishes, fits_cpu=fits_cpu)


def plan_cards(snapshot: Snapshot, request: PlanRequest) -> list[Plan | Refusal]:
    """Plan for each card of the machine, in the driver's order; empty where the CPU was asked for."""
    wishes = request.wishes
    if wishes.device == "cpu":
        return []
    cards = [gpu for gpu in snapshot.gpus if wishes.gpu in (None, gpu.index)]
    return [_plan_card(snapshot, gpu, request) for gpu in cards]


def worth(candidate: Plan) -> tuple[int, int, int, int, int]:
    """Order plans by what they give: larger pictures, more resident blocks, more sessions, more memory."""
    return (
        candidate.max_pixels,
        candidate.execution.resident_blocks,
        candidate.sessions.at_max_pixels,
        candidate.budget_bytes,
        -candidate.execution.device_index,
    )


def _plan_card(snapshot: Snapshot, gpu: Gpu, request: PlanRequest) -> Plan | Refusal:
    refusal = no_daemon_there(snapshot) or incompatible(snapshot, gpu)
    if refusal is not None:
        return refusal
    memory = gpu.memory_total_bytes or gpu.memory_free_bytes or request.wishes.budget_bytes
    if not memory:
        return unknown_memory(gpu)
    profile = match_profile(request.profiles, "cuda", gpu.compute_capability, memory, gpu.name)
    if profile is None:
        return no_profile(f"{gpu.name} with {gib(memory)}")
    choice = profile.profile.choose
    listed = shortlist(gpu, snapshot, choice, request.model, request.wishes)
    budget = device_budget(gpu, choice.reserve_bytes, request.wishes)
    case = CardRequest(snapshot, gpu, profile, request, listed, budget)
    if not listed.candidates:
        return no_precision(case)
    return planned_with_second(snapshot, request, lambda second: _fit_card(replace(case, second=second)))


def _fit_card(case: CardRequest) -> Plan | Refusal:
    """Take the first candidate that reaches everything but a resident text encoder, else the one that gets furthest."""
    rungs = _rungs(case.request, case.choice)
    if asks_for_eight_bits(case.request.wishes) and not case.request.text_encoder_as_stored:
        # Layers are expanded as they stream: a resident text encoder is in 16 bits.
        rungs = [rung for rung in rungs if rung.text_encoder == "streamed"]
    capacity = host_capacity(case.snapshot)
    fits: list[tuple[Candidate, Fit]] = []
    short_host: list[tuple[Candidate, int, int]] = []
    for candidate in case.listed.candidates:
        fitter = case.fitter(candidate.numerics)
        fit = fitter.best(rungs, case.budget.bytes)
        if fit is None:
            continue
        needed = _host_needed(fitter, fit.rung)
        if capacity is not None and needed > capacity:
            short_host.append((candidate, needed, case.request.model.architecture.layers - fit.rung.resident))
        else:
            fits.append((candidate, fit))
    if not fits:
        return too_little_host_memory(short_host, capacity or 0) if short_host else too_little_memory(case, rungs)
    everything = len(rungs) - (2 if rungs[-1].text_encoder == "resident" else 1)
    chosen, fit = next(
        ((candidate, fit) for candidate, fit in fits if fit.index >= everything),
        max(fits, key=lambda pair: pair[1].index),
    )
    return _plan_of(case, chosen, fit, short_host)


def _plan_of(case: CardRequest, chosen: Candidate, fit: Fit, short_host: Sequence[tuple[Candidate, int, int]]) -> Plan:
    model, rung, wishes = case.request.model, fit.rung, case.request.wishes
    layers = model.architecture.layers
    streamed = layers - rung.resident
    fitter = case.fitter(chosen.numerics)
    block = fitter.memory.host_block
    as_stored = streamed > 0 and fitter.memory.streams_stored
    reasons = (
        chosen.reason,
        *(f"not {text}" for text in case.listed.rejected),
        *(
            f"not {other.numerics.precision}: its streamed blocks need {gib(need)} of host"
            for other, need, _ in short_host
        ),
        residency_reason(rung, layers, fitter.memory.weights("streamed").block, as_stored=as_stored),
        *fp8_attention_reasons(case, chosen.numerics),
        *text_precision_reasons(model, wishes, case.request.text_encoder_as_stored, rung.text_encoder),
        *second_reasons(fitter.memory),
        *copied_text_reasons(fitter.memory.copied_text_bytes(rung.text_encoder)),
        *preview_reasons(case.request.preview),
    )
    pinned = streamed * block if streamed * block <= pinnable_bytes(case.snapshot) else 0
    execution = Execution(
        device="cuda",
        device_index=case.gpu.index,
        precision=chosen.numerics.precision,
        scaling=chosen.numerics.scaling if chosen.numerics.precision == "fp8" else None,
        compute=chosen.numerics.compute,
        total_blocks=layers,
        resident_blocks=rung.resident,
        ring_slots=RING_SLOTS if streamed else 0,
        text_encoder=rung.text_encoder,
        encode_tile_px=fit.tiles.encode,
        decode_tile_px=fit.tiles.decode,
        pin=streamed * block <= pinnable_bytes(case.snapshot),
        allocator_bytes=case.budget.bytes - fitter.memory.factors.context,
        max_reference_pixels=rung.max_reference_pixels,
        attention=(*_fp8_attention(chosen.numerics), *proven_attention(case.gpu, model.architecture.head_dim)),
        sweep_bytes=_sweep_bytes(fitter, rung) if streamed else 0,
        stored_block_bytes=fitter.memory.stored_block if as_stored else 0,
        text_encoder_precision=fitter.memory.text_precision if rung.text_encoder == "streamed" else "stored",
        preview_decoder=case.request.preview,
        second=second_of(fitter.memory, case.snapshot, pinned),
    )
    active = _session_limit(case.choice, wishes)
    pictures = _with_pictures(
        case.snapshot, fitter, rung, active, _host_needed(fitter, rung), case.request.largest_result
    )
    return Plan(
        model=model.name,
        gpu=case.gpu.name,
        gpu_uuid=case.gpu.uuid,
        profile=case.profile.profile.name,
        precision=chosen.numerics.precision,
        scaling=execution.scaling,
        reasons=reasons,
        budget_bytes=case.budget.bytes,
        predicted_peak_bytes=fit.peak,
        host_bytes=pictures.host_bytes,
        decoding_bytes=pictures.room,
        results_bytes=pictures.results,
        pinned_bytes=pinned + (fitter.memory.second_host_bytes if execution.second and execution.second.pin else 0),
        max_pixels=rung.max_pixels,
        max_reference_pixels=rung.max_reference_pixels,
        sessions=Sessions(active, rung.sessions),
        execution=execution,
        parts=fit.parts,
        warnings=(
            *case.budget.warnings,
            *warnings_of(case, chosen, execution, block),
            *text_precision_warnings(wishes, case.request.text_encoder_as_stored),
            *case.request.warnings,
        ),
        sources=sources_of(case, rung, chosen.numerics),
    )


def _plan_cpu(snapshot: Snapshot, request: PlanRequest, refusals: Sequence[Refusal], *, second: bool) -> Plan | Refusal:
    model, wishes = request.model, request.wishes
    if _too_large_for_cpu(model):
        return cpu_too_slow(model)
    profile = match_profile(request.profiles, "cpu", None, None, "")
    if profile is None:
        return no_profile("the CPU")
    numerics = _cpu_numerics(wishes)
    memory = MemoryModel(model, numerics, "cpu", preview=request.preview, second=second and numerics.takes_second)
    fitter = Fitter(memory, profile.profile.choose, wishes.cache_bytes, request.loras)
    layers = model.architecture.layers
    rungs = [rung for rung in _rungs(request, profile.profile.choose) if rung.text_encoder == "streamed"]
    rungs = [Rung(r.max_pixels, r.max_reference_pixels, r.sessions, layers, "resident") for r in rungs]
    budget = cpu_budget(snapshot.host, profile.profile.choose.reserve_bytes, wishes)
    fit = fitter.best(rungs, budget.bytes)
    if fit is None:
        return Refusal(
            "host_memory_too_small",
            f"{model.title} needs {gib(fitter.needed(rungs[0]))} of memory on the CPU; {gib(budget.bytes)} may be "
            "used.",
            "Close other programs, or raise worker.budget_bytes where it is set.",
        )
    rung = fit.rung
    why = refusals[0].message if refusals else ("asked for" if wishes.device == "cpu" else "no card was found")
    execution = Execution(
        "cpu", 0, numerics.precision, numerics.scaling if numerics.precision == "fp8" else None, numerics.compute,
        layers, layers, 0, "resident", fit.tiles.encode, fit.tiles.decode, False, 0, rung.max_reference_pixels,
        attention=_fp8_attention(numerics), preview_decoder=request.preview, second=second_of(memory, snapshot, 0),
    )  # fmt: skip
    plain = numerics.precision == "fp32"
    active = _session_limit(profile.profile.choose, wishes)
    pictures = _with_pictures(snapshot, fitter, rung, active, fit.peak, request.largest_result)
    return Plan(
        model=model.name,
        gpu="CPU",
        profile=profile.profile.name,
        precision="cpu" if plain else numerics.precision,
        scaling=execution.scaling,
        reasons=(
            f"on the CPU: {why}",
            "in FP32: the CPU only simulates other precisions, which takes longer"
            if plain
            else f"{numerics.precision}, simulated exactly, as asked for",
            *(("attention in FP8, simulated as well, as asked for",) if numerics.fp8_attention else ()),
            *second_reasons(memory),
            *preview_reasons(request.preview),
        ),
        budget_bytes=budget.bytes,
        predicted_peak_bytes=fit.peak,
        host_bytes=pictures.host_bytes,
        decoding_bytes=pictures.room,
        results_bytes=pictures.results,
        pinned_bytes=0,
        max_pixels=rung.max_pixels,
        max_reference_pixels=rung.max_reference_pixels,
        sessions=Sessions(active, rung.sessions),
        execution=execution,
        parts=fit.parts,
        warnings=(
            *budget.warnings,
            *fp8_attention_warnings(wishes, numerics, None, model),
            *text_precision_warnings(wishes, "on the CPU its layers do not stream"),
            *request.warnings,
        ),
        sources=cpu_sources(model, profile, budget, wishes, rung, numerics),
    )


def _cpu_numerics(wishes: Wishes) -> Precisions:
    if wishes.precision in ("auto", "fp32"):
        return Precisions("fp32", None, "fp32")
    if wishes.precision == "bf16":
        return Precisions("bf16", None, "bf16")
    if wishes.precision == "int8":
        return Precisions("int8", None, "bf16", wishes.fp8_attention == "on")
    assert wishes.precision in ("fp8", "fp8-storage")
    if wishes.precision == "fp8":
        # Simulated, it is slow: nobody gets it who did not ask.
        return Precisions("fp8", "rowwise", "bf16", wishes.fp8_attention == "on")
    return Precisions("fp8-storage", "rowwise", "bf16")


def _fp8_attention(numerics: Precisions) -> tuple[str, ...]:
    return (FP8_ATTENTION,) if numerics.fp8_attention else ()


def _rungs(request: PlanRequest, choice: Choice) -> list[Rung]:
    """The ladder, within the caps that were asked for."""
    wishes = request.wishes
    caps = {
        name: min(getattr(choice, name), wished) if wished else getattr(choice, name)
        for name, wished in (("max_pixels", wishes.target_pixels), ("max_reference_pixels", wishes.reference_pixels))
    }
    return ladder(request.model, choice.model_copy(update=caps), wishes.max_active)


def _sweep_bytes(fitter: Fitter, rung: Rung) -> int:
    """What the largest edit's own step takes: in the arena that is planned for it, several smaller ones go together."""
    return step_bytes(fitter.memory.shape, forwards_of(fitter.work(rung)))


def _host_needed(fitter: Fitter, rung: Rung) -> int:
    """Bytes of the host besides pictures."""
    streamed = fitter.memory.profile.architecture.layers - rung.resident
    return fitter.memory.host_bytes(streamed, rung.text_encoder)


@dataclass(frozen=True)
class _WithPictures:
    """Bytes of the host in all, those of them in which pictures are decoded, and those for large results."""

    host_bytes: int
    room: int
    results: int


def _with_pictures(
    snapshot: Snapshot, fitter: Fitter, rung: Rung, active: int, needed: int, largest_result: int
) -> _WithPictures:
    """Add the pictures of ``active`` edits, and as much room to decode them as there is, most of the reserve included.

    What is left is for large results. Both take moments, so they never keep a machine from serving that can hold the
    rest.
    """
    capacity = host_capacity(snapshot)
    taken = needed + held_bytes(fitter.work(rung), fitter.memory.profile.geometry.vision_pixels, active)
    spare = None if capacity is None else capacity + HOST_RESERVE * 3 // 4 - taken
    room = decoding_room(spare)
    results = results_room(None if spare is None else spare - room, largest_result)
    return _WithPictures(taken + room + results, room, results)


def _session_limit(choice: Choice, wishes: Wishes) -> int:
    return min(choice.session_limit, wishes.max_active or choice.session_limit)


def _blocks(model: ModelProfile) -> int:
    return model.architecture.layers * model.architecture.block_parameters


def _too_large_for_cpu(model: ModelProfile) -> bool:
    return _blocks(model) > CPU_PARAMETERS

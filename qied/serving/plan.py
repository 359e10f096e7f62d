"""From a machine and a model to what the daemon serves, and how its workers start: one for each card with a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qied_client.errors import ConfigError, PlanRefused
from qied_client.protocol import limits

from qied.config import Config
from qied.hardware.snapshot import Gpu, Snapshot
from qied.hardware.user_folders import user_cache_folder
from qied.hardware.visibility import named_cards, select_card
from qied.link.launch import LaunchOrder
from qied.planning.choosing.budget import device_budget, host_capacity
from qied.planning.choosing.fitting import GRAPHS, LORAS, SECOND
from qied.planning.choosing.planner import PlanRequest, plan, plan_cards, worth
from qied.planning.choosing.refit import refit
from qied.planning.choosing.refusals import beside_other_cards, card_gone, incompatible, too_little_to_restart
from qied.planning.choosing.second_precision import asks_for_second
from qied.planning.choosing.text_precision import streamed_text_precision
from qied.planning.edits.loras import room_for
from qied.planning.edits.pictures import CANVAS_PIXELS
from qied.planning.layout.memory import model_of
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import LoadedProfile, match_profile
from qied.planning.requests.serving import Serving, kind_of
from qied.planning.wishes import Wishes
from qied.serving.model import BUILTIN, ServedModel

FIXED_PARTS = (
    "context", GRAPHS, "small weights", "resident blocks", "ring", SECOND, "text encoder", "caches", LORAS,
)  # fmt: skip
"""Parts of a plan that are there whether an edit runs or not."""


@dataclass(frozen=True)
class Served:
    """The served model, a launch order for each worker, and the refusals of cards that are left out."""

    serving: Serving
    orders: tuple[LaunchOrder, ...]
    left_out: tuple[Refusal, ...]


def plan_for(
    snapshot: Snapshot, model: ServedModel, config: Config, wishes: Wishes, profiles: Sequence[LoadedProfile]
) -> Plan | Refusal:
    """The plan of a worker on the best of the cards that are to be used, or why there is none; raises ConfigError."""
    return plan(*plan_inputs(snapshot, model, config, wishes, profiles))


def plan_inputs(
    snapshot: Snapshot, model: ServedModel, config: Config, wishes: Wishes, profiles: Sequence[LoadedProfile]
) -> tuple[Snapshot, PlanRequest]:
    """What the planner is given: the machine with the chosen cards alone, and the request; raises ConfigError."""
    room = room_for(model.loras.facts.values(), config.worker.loras_at_once)
    as_stored = _text_encoder_as_stored(model, config)
    request = PlanRequest(
        model.profile,
        profiles,
        wishes,
        room,
        model.stored_block_bytes,
        as_stored,
        model.copied_text_weights(quantised=streamed_text_precision(wishes, as_stored) != "stored"),
        model.tiny.decoder,
        model.not_bf16 if asks_for_second(wishes) else "",
        model.tiny.warnings,
        limits.PIXELS if model.upscalers.facts else CANVAS_PIXELS,
    )
    return with_chosen_cards(snapshot, config.model.gpus), request


def plan_service(
    snapshot: Snapshot, model: ServedModel, config: Config, wishes: Wishes, profiles: Sequence[LoadedProfile]
) -> Served:
    """Plan for every card that is to be used; raises PlanRefused where none can serve the model."""
    snapshot, request = plan_inputs(snapshot, model, config, wishes, profiles)
    plans, left_out = _on_cards(snapshot, request)
    seconds = [made.execution.second for made in plans]
    if any(seconds):
        # It costs no card its place, and an edit is the same wherever it runs.
        alone = replace(request, second_refused="the workers of all cards have no room for it together")
        plans_alone, left_out_alone = _on_cards(snapshot, alone)
        if not all(seconds) or len(plans_alone) > len(plans):
            plans, left_out = plans_alone, left_out_alone
    if not plans:
        only = plan(snapshot, request)
        if isinstance(only, Refusal):
            raise _refused(only)
        plans = [only]
    serving = Serving(
        model.profile,
        tuple(_with_same_references(plans)),
        model.loras.facts,
        request.loras,
        model.lightning_steps,
        model.warnings,
        keeps_schedule=model.keeps_schedule,
        rewrites=bool(config.rewriter.for_workers),
        upscalers=model.upscalers.facts,
        upscaler_precisions={name: file.precision for name, file in model.upscalers.on(plans[0].gpu).items()},
    )
    orders = tuple(_order(made, snapshot, model, config, wishes) for made in serving.plans)
    return Served(serving, orders, tuple(left_out))


def refitted_order(
    order: LaunchOrder, snapshot: Snapshot, model: ServedModel, wishes: Wishes, profiles: Sequence[LoadedProfile]
) -> LaunchOrder:
    """The order fitted to what is free on its card now, for a worker that starts again.

    Raises PlanRefused with what is to be done where the card is gone, cannot be used any more, or has too little free.
    """
    if order.execution.device == "cpu":
        return order
    card = next((gpu for gpu in snapshot.gpus if select_card(gpu) == order.card), None)
    if card is None:
        raise _refused(card_gone(snapshot))
    if (broken := incompatible(snapshot, card)) is not None:
        raise _refused(broken)
    profile = match_profile(profiles, "cuda", card.compute_capability, card.memory_total_bytes, card.name)
    reserve = 0 if profile is None else profile.profile.choose.reserve_bytes
    budget = device_budget(card, reserve, wishes).bytes
    found = refit(
        order.execution,
        fixed_bytes=order.fixed_bytes,
        edits_bytes=order.edits_bytes,
        block_bytes=model_of(order.execution, model.profile).weights("streamed").block,
        budget_bytes=budget,
        context_bytes=order.budget_bytes - order.execution.allocator_bytes,
    )
    if found is None:
        raise _refused(too_little_to_restart(card, budget))
    return replace(order, execution=found.execution, fixed_bytes=found.fixed_bytes, budget_bytes=budget)


def _on_cards(snapshot: Snapshot, request: PlanRequest) -> tuple[list[Plan], list[Refusal]]:
    """The plans of the cards that the host holds together, the best first, and why others are left out."""
    outcomes = plan_cards(snapshot, request)
    plans = sorted((outcome for outcome in outcomes if isinstance(outcome, Plan)), key=worth, reverse=True)
    plans, crowded_out = _within_host(plans, host_capacity(snapshot))
    return plans, [*(outcome for outcome in outcomes if isinstance(outcome, Refusal)), *crowded_out]


def _refused(refusal: Refusal) -> PlanRefused:
    return PlanRefused(refusal.message, refusal.remedy, reason=refusal.code)


def _within_host(plans: Sequence[Plan], capacity: int | None) -> tuple[list[Plan], list[Refusal]]:
    """Keep the workers that the host's memory holds together, the best first.

    Where it does not hold them all as they are, each has less room to decode pictures.
    """
    if capacity is not None and len(plans) > 1 and sum(made.host_bytes for made in plans) > capacity:
        plans = [made.with_least_pictures() for made in plans]
    kept: list[Plan] = []
    refusals: list[Refusal] = []
    for made in plans:
        taken = sum(other.host_bytes for other in kept)
        if kept and capacity is not None and taken + made.host_bytes > capacity:
            refusals.append(beside_other_cards(made, taken, capacity))
        else:
            kept.append(made)
    return kept, refusals


def with_chosen_cards(snapshot: Snapshot, gpus: str) -> Snapshot:
    """Leave out the cards that ``model.gpus`` does not name; raises ConfigError for one that is not there."""
    if gpus == "all":
        return snapshot
    try:
        kept = named_cards(snapshot.gpus, gpus.split(","))
    except ValueError as error:
        there = ", ".join(dict.fromkeys(str(gpu.index) for gpu in snapshot.gpus)) or "none"
        raise ConfigError(
            f"model.gpus: {error}; there {'is' if there == 'none' else 'are'} {there}.",
            f"Choose from: {'; '.join(map(_in_words, snapshot.gpus))}." if snapshot.gpus else "See: qied doctor",
        ) from None
    return snapshot.model_copy(update={"gpus": kept})


def _in_words(gpu: Gpu) -> str:
    return f"{gpu.index} is {gpu.name}{'' if gpu.uuid is None else f' ({gpu.uuid})'}"


def _with_same_references(plans: Sequence[Plan]) -> list[Plan]:
    """Cap references alike on all workers: their size changes the result, which must not depend on the card."""
    cap = min(made.max_reference_pixels for made in plans)
    return [
        replace(made, max_reference_pixels=cap, execution=replace(made.execution, max_reference_pixels=cap))
        for made in plans
    ]


def _order(made: Plan, snapshot: Snapshot, model: ServedModel, config: Config, wishes: Wishes) -> LaunchOrder:
    run = made.execution
    mine = (gpu for gpu in snapshot.gpus if (gpu.index, gpu.uuid) == (run.device_index, made.gpu_uuid))
    card = next(mine, None) if run.device == "cuda" else None
    return LaunchOrder(
        worker="",
        endpoint="",
        server_key="",
        public_key="",
        secret_key="",
        engine=config.worker.engine,
        checkpoint=model.checkpoint(),
        profile=model.profile_name,
        execution=run,
        kind=kind_of(run),
        card={} if card is None else dict(select_card(card)),
        budget_bytes=made.budget_bytes,
        fixed_bytes=sum(part.bytes for part in made.parts if part.name in FIXED_PARTS),
        edits_bytes=sum(part.bytes for part in made.parts if part.name not in FIXED_PARTS),
        cache_bytes=wishes.cache_bytes,
        max_active=made.sessions.limit,
        decoding_bytes=made.decoding_bytes,
        results_bytes=made.results_bytes,
        marking=config.output.marking_of_results,
        rewriter=config.rewriter.for_workers,
        loras=dict(model.loras.files),
        upscalers=model.upscalers.on("" if card is None else card.name),
        lora_bytes=next((part.bytes for part in made.parts if part.name == LORAS), 0),
        threads=config.worker.threads,
        log_format=config.daemon.log_format,
        log_level=config.daemon.log_level,
        packed_folder=_kept_in("packed", config.storage.packed_bytes, model),
        packed_bytes=config.storage.packed_bytes,
        modulation_folder=_kept_in("modulation", config.storage.modulation_bytes, model),
        modulation_bytes=config.storage.modulation_bytes,
        free_reserve_bytes=config.storage.free_reserve_bytes,
    )


def _text_encoder_as_stored(model: ServedModel, config: Config) -> str:
    """Why a model's text encoder is not quantised here, a clause; "" where it can be."""
    if model.profile_name == BUILTIN:
        return "the built-in model is small"
    if not config.storage.packed_bytes:
        return "storage.packed_bytes is 0, and it would be kept there"
    return model.text_encoder_quantised


def _kept_in(folder: str, limit_bytes: int, model: ServedModel) -> str:
    """Where something is kept for the next start; "" for nowhere, as for the built-in model, which takes a moment."""
    return str(user_cache_folder() / folder) if limit_bytes and model.profile_name != BUILTIN else ""

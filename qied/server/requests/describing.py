"""DESCRIBE, LORAS and UPSCALERS: what this daemon serves, and what a request can name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from heapq import nsmallest
from typing import Any, Final

from qied_client.errors import QiedError
from qied_client.pixels.plugins import decodable_formats
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.message import cut_text
from qied_client.protocol.request import EditRequest

from qied.config import Config
from qied.edit import EditSpec
from qied.planning.choosing.planned_upscalers import planned_upscalers
from qied.planning.edits.loras import LoraFacts
from qied.planning.plan import Plan
from qied.planning.requests.lora_choices import distilling_lora
from qied.planning.requests.request_defaults import resolve
from qied.planning.requests.serving import Serving

_STAGES: Final = ("mask", "edit", "redraw", "refine", "upscale", "save")
"""The stages of a recipe that an edit can have, with an upscaler."""
_PRESETS: Final = 8
_PLANS: Final = 8
_PRESET_LORAS: Final = 2
_PLANNED_UPSCALERS: Final = 64
"""In each plan, which has to fit a message with the others."""
_TEXT_BYTES: Final = 200
_OF_ONE_USER: Final = (
    "jobs_running_per_user",
    "jobs_waiting_per_user",
    "sessions_per_user",
    "uploads_per_client",
    "requests_per_client",
    "connections_per_user",
    "requests_per_user",
    "uploads_per_user",
    "downloads_per_user",
    "unread_bytes_per_user",
    "submits_per_minute",
    "jobs_kept_per_user",
    "turns_per_session",
    "picture_pixels",
)
"""The settings in ``limits`` that hold for one user."""


def description(identifier: int, serving: Serving, config: Config, edit_ms: Callable[[EditSpec], int]) -> m.Description:
    """What is served: the model, its presets with what speaks against each, and the limits of one user.

    ``edit_ms`` estimates how long an edit runs.
    """
    profile = serving.profile
    warnings = dict.fromkeys(warning for name in profile.presets for warning in _warnings(name, serving))
    return m.Description(
        re=identifier,
        model=cut_text(profile.name, limits.NAME_CHARS),
        title=cut_text(profile.title, limits.NAME_CHARS),
        model_version=profile.version,
        precision=serving.precision,
        max_pixels=min(serving.max_pixels, limits.PIXELS),
        max_images=profile.geometry.max_references,
        side_multiple=profile.geometry.side_multiple,
        picture_formats=decodable_formats(),
        presets=tuple(_preset_info(name, serving, edit_ms) for name in list(profile.presets)[:_PRESETS]),
        loras=len(serving.loras),
        warnings=tuple(warnings)[: limits.WARNINGS],
        stages=tuple(stage for stage in _STAGES if stage != "upscale" or serving.upscalers),
        limits={f"limits.{name}": getattr(config.limits, name) for name in _OF_ONE_USER},
    )


def plans_of(serving: Serving) -> bytes:
    """The plans of the first workers as JSON."""
    return json.dumps([_plan(serving, plan) for plan in serving.plans[:_PLANS]]).encode()


def _plan(serving: Serving, plan: Plan) -> dict[str, Any]:
    precisions = serving.upscaler_precisions if plan is serving.plans[0] else {}
    upscalers = planned_upscalers(plan, serving.profile, serving.upscalers, precisions)[:_PLANNED_UPSCALERS]
    return {**plan.to_json(), **({"upscalers": [each.to_json() for each in upscalers]} if upscalers else {})}


def _preset_info(name: str, serving: Serving, edit_ms: Callable[[EditSpec], int]) -> m.PresetInfo:
    preset = serving.profile.presets[name]
    return m.PresetInfo(
        name=name,
        steps=preset.steps,
        true_cfg_scale=preset.true_cfg_scale,
        precision=preset.precision or "",
        loras=(*distilling_lora(preset, (), serving), *preset.loras)[:_PRESET_LORAS],
        about=cut_text(preset.description, _TEXT_BYTES),
        default=name == serving.profile.default_preset,
        expected_ms=_expected_ms(name, serving, edit_ms),
    )


def _expected_ms(preset: str, serving: Serving, edit_ms: Callable[[EditSpec], int]) -> int:
    try:
        return edit_ms(_square_edit(preset, serving))
    except QiedError:
        return 0


def _square_edit(preset: str, serving: Serving) -> EditSpec:
    """An edit of one square picture, or none, with this preset and no other settings.

    Raises QiedError where it is refused.
    """
    geometry = serving.profile.geometry
    side, count = geometry.side_multiple * 16, geometry.least_references
    request = EditRequest(("0" * 64,) * count, "-", 0, preset=preset, on_cap="fit")
    return resolve(request, [(side, side)] * count, serving).spec


def _warnings(preset: str, serving: Serving) -> Iterator[str]:
    """What that edit would be warned of, or why it is refused."""
    try:
        yield from (cut_text(warning, limits.WARNING_BYTES) for warning in _square_edit(preset, serving).warnings)
    except QiedError as error:
        yield cut_text(str(error), limits.WARNING_BYTES)


def lora_list(identifier: int, loras: Mapping[str, LoraFacts], after: str | None) -> m.LoraList:
    """A page of the LoRAs in the order of their names, from the first one after a name."""
    later = (name for name in loras if after is None or name > after)
    names = nsmallest(limits.PAGE_LORAS + 1, later)
    page = tuple(_lora_info(name, loras[name]) for name in names[: limits.PAGE_LORAS])
    return m.LoraList(identifier, page, more=len(names) > limits.PAGE_LORAS)


def _lora_info(name: str, facts: LoraFacts) -> m.LoraInfo:
    return m.LoraInfo(name, facts.bytes, facts.rank, facts.steps or 0, cut_text(facts.problem or "", _TEXT_BYTES))


def upscaler_list(identifier: int, serving: Serving, after: str | None) -> m.UpscalerList:
    """A page of the upscaling models in the order of their names, from the first one after a name."""
    later = (name for name in serving.upscalers if after is None or name > after)
    names = nsmallest(limits.PAGE_UPSCALERS + 1, later)
    page = tuple(_upscaler_info(name, serving) for name in names[: limits.PAGE_UPSCALERS])
    return m.UpscalerList(identifier, page, more=len(names) > limits.PAGE_UPSCALERS)


def _upscaler_info(name: str, serving: Serving) -> m.UpscalerInfo:
    facts = serving.upscalers[name]
    architecture = cut_text(facts.architecture, limits.SHORT_NAME_BYTES)
    return m.UpscalerInfo(name, facts.scale, architecture, serving.upscaler_precisions.get(name, "fp32"))

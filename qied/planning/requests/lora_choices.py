"""From the LoRAs that a request and its preset name to those of the edit, and the schedule with them. Pure.

Lightning, a distillation to a few steps, comes as a LoRA or merged into the transformer; either has a schedule of its
own, and suits its number of steps and no guidance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from qied_client.errors import InvalidRequest, ModelUnsupported, UnknownLora
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.edit import EditSpec, Schedule
from qied.planning.edits.loras import LoraFacts
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import Preset
from qied.planning.requests.serving import Serving

_SHOWN = 12
"""Names of LoRAs in an error, at most."""


def chosen_loras(request: EditRequest, preset: Preset, serving: Serving) -> tuple[LoraChoice, ...]:
    """The preset's LoRAs, then the request's, each of them once; one of strength 0 is left out.

    A preset that wants Lightning weights gets the first LoRA that was made for its steps, unless the request names one
    itself or the transformer needs none; see ``unsuited`` for where there is no such LoRA.

    Raises UnknownLora, ModelUnsupported for a file that cannot be used, and InvalidRequest where they do not fit the
    memory that is kept for them.
    """
    named = [lora.name for lora in request.loras]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InvalidRequest(f"loras: {twice!r} is named twice.", "Name it once, with one strength.", field="loras")
    distilled = distilling_lora(preset, named, serving)
    of_preset = dict.fromkeys((*distilled, *preset.loras), 1.0)
    strengths = {**of_preset, **{lora.name: lora.strength for lora in request.loras}}
    for name in strengths:
        _check_usable(name, serving.loras, "" if name in named else f" The preset {request.preset!r} uses it.")
    chosen = tuple(LoraChoice(name, strength) for name, strength in strengths.items() if strength)
    if len(chosen) > limits.LORAS:
        raise InvalidRequest(
            f"loras: {len(chosen)} with those of the preset; at most {limits.LORAS} are possible.",
            "Name fewer.",
            field="loras",
        )
    _check_room(chosen, serving)
    return chosen


def distilling_lora(preset: Preset, named: Sequence[str], serving: Serving) -> tuple[str, ...]:
    """The LoRA that a preset for distilled weights is run with, if it takes one more than the request has."""
    if preset.lightning is None or serving.lightning_steps is not None:
        return ()
    known = serving.loras
    if any(name in known and known[name].steps is not None for name in (*named, *preset.loras)):
        return ()
    fitting = [name for name, facts in sorted(known.items()) if facts.steps == preset.lightning]
    served = serving.profile.version
    own = [name for name in fitting if served and known[name].version == served]
    # One for another version of the model has the same tensors, and other numbers in them.
    untold = [name for name in fitting if known[name].version is None]
    return tuple(own or untold)[:1]


def schedule_for(preset: Preset, chosen: Sequence[LoraChoice], serving: Serving) -> Schedule:
    """The preset's schedule, or Lightning's where the weights are distilled to it, by a LoRA or by themselves."""
    distilled = serving.lightning_steps is not None and not serving.keeps_schedule
    if distilled or any(serving.loras[lora.name].steps is not None for lora in chosen):
        return "lightning"
    return preset.schedule


def distilled_steps(request: EditRequest, chosen: Sequence[LoraChoice], serving: Serving) -> int | None:
    """The steps that an edit takes where neither steps nor a preset are asked for, with a CFG scale of 1.

    They are those that the model itself is distilled to, else those of the first Lightning LoRA that the request
    names; None where there is neither, or a preset is named.
    """
    if request.preset is not None:
        return None
    if serving.lightning_steps is not None:
        return serving.lightning_steps
    named = {lora.name for lora in request.loras}
    return next((steps for name, steps in _distilled(chosen, serving).items() if name in named), None)


def _distilled(chosen: Sequence[LoraChoice], serving: Serving) -> dict[str, int]:
    """The Lightning LoRAs among these, with the steps of each."""
    return {lora.name: steps for lora in chosen if (steps := serving.loras[lora.name].steps) is not None}


def unsuited(spec: EditSpec, preset: Preset, serving: Serving) -> Iterator[str]:
    """What in an edit does not suit Lightning weights, or lacks them, and what would: a warning each."""
    distilled = _distilled(spec.loras, serving)
    yield from _wrong_loras(distilled, serving)
    yield from _of_other_models(spec.loras, serving)
    if serving.lightning_steps is not None:
        distilled = {"This model": serving.lightning_steps}
    elif len(distilled) > 1:
        distilled = dict([next(iter(distilled.items()))])
    for name, steps in distilled.items():
        if spec.steps != steps:
            yield f"{name} was made for {steps} steps, but this edit has {spec.steps}. Use {steps} steps."
        if spec.guided:
            scale = f"{spec.true_cfg_scale:g}"
            yield f"{name} was made for a CFG scale of 1, but this edit has {scale}. Use a CFG scale of 1."
    if preset.lightning is not None and not distilled:
        pulled = serving.profile.lightning_download(preset.lightning)
        got = f" (qied pull {pulled})" if pulled is not None else ""
        yield (
            f"This preset is meant for a Lightning LoRA of {preset.lightning} steps, but this daemon has none. "
            f"Use another preset, or ask the daemon's owner to get one{got}."
        )


def _of_other_models(chosen: Sequence[LoraChoice], serving: Serving) -> Iterator[str]:
    """LoRAs that are named for another version of the model, and those of which a part is not used."""
    served = serving.profile.version
    for lora in chosen:
        facts = serving.loras[lora.name]
        if facts.version is not None and served and facts.version != served:
            wanted = "a Lightning LoRA" if facts.steps is not None else "one"
            yield (
                f"{lora.name} is made for {called(facts.version)}, but this model is {called(served)}: it may change "
                f"too little, or spoil the picture. Use {wanted} for {called(served)}."
            )
        if facts.note:
            yield f"{lora.name}: {facts.note}"


def _wrong_loras(distilled: Mapping[str, int], serving: Serving) -> Iterator[str]:
    """Lightning LoRAs that are too many."""
    if serving.lightning_steps is not None:
        for name in distilled:
            yield (
                f"{name} is used on a model that is already distilled to {serving.lightning_steps} steps. "
                "Leave this LoRA out."
            )
    elif len(distilled) > 1:
        yield f"{' and '.join(distilled)} are Lightning LoRAs, which do not go together. Use only one of them."


def _check_usable(name: str, known: Mapping[str, LoraFacts], who: str) -> None:
    if name not in known:
        for above in PurePosixPath(name).parents:
            if (folder := known.get(str(above))) is not None and folder.problem is not None:
                raise ModelUnsupported(f"{folder.problem}{who}", folder.remedy, field="loras")
        usable = sorted(other for other, facts in known.items() if facts.problem is None)
        more = f" and {len(usable) - _SHOWN} more" if len(usable) > _SHOWN else ""
        listed = ", ".join(usable[:_SHOWN]) + more or "none"
        raise UnknownLora(f"There is no LoRA {name!r}.{who}", f"Known here: {listed}.", field="loras")
    if (problem := known[name].problem) is not None:
        raise ModelUnsupported(f"{problem}{who}", known[name].remedy, field="loras")


def _check_room(chosen: Sequence[LoraChoice], serving: Serving) -> None:
    needed = sum(serving.loras[lora.name].parameters for lora in chosen)
    if needed > serving.lora_room.parameters:
        raise InvalidRequest(
            f"loras: these {len(chosen)} have {needed} parameters together; this daemon keeps room for "
            f"{serving.lora_room.parameters}.",
            "Name fewer, or raise worker.loras_at_once.",
            field="loras",
        )

"""Samplers: seed, steps, guidance and schedule of an edit, where they are the same as here.

The daemon takes Euler's steps along a schedule of flow matching whose times are 1, 1 - 1/n, ... 1/n, shifted; so do
ComfyUI's samplers and schedules below. ``ddim`` is ``euler`` there but for masked latents. ``sgm_uniform`` takes its
times from 1 to the shifted smallest one, which moves no sigma by more than 0.01 from those of ``simple``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.protocol import limits
from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here

SAMPLERS: Final = ("euler", "ddim")
SCHEDULES: Final = ("simple", "sgm_uniform")
_ALL: Final = 0.9999
"""A denoise above it is 1 for ComfyUI."""
_LEAST: Final = 0.01
_NEARLY_SIMPLE: Final = "The schedule is simple's, of which no sigma differs by more than 0.01."
_EULER: Final = "Choose euler, whose steps are the daemon's"
_SIMPLE: Final = "Choose simple, whose schedule is the daemon's"


def _ksampler(here: Here) -> object:
    guidance, latents = here.together(
        lambda: _guided(here),
        lambda: here.take("latent_image", v.Latents, v.Edit),
        lambda: _euler(here),
        lambda: _simple(here),
    )[:2]
    seed, steps = here.integer("seed"), here.integer("steps")
    return _sampled(here, guidance, v.Noise(seed), steps, here.number("denoise", 1.0), latents)


def _advanced(here: Here) -> object:
    guidance, latents = here.together(
        lambda: _guided(here),
        lambda: here.take("latent_image", v.Latents, v.Edit),
        lambda: _euler(here),
        lambda: _simple(here),
    )[:2]
    steps, start, end = here.integer("steps"), here.integer("start_at_step", 0), here.integer("end_at_step", 10_000)
    if end < steps or here.flag("return_with_leftover_noise", False):
        here.refuse(
            "it stops before the last step.",
            "Let one sampler take all steps: the daemon keeps no half result.",
            input="end_at_step",
        )
    noise = v.Noise(here.integer("noise_seed"), here.flag("add_noise", True))
    if start >= steps:
        here.refuse("it begins after the last step.", "Lower start_at_step.", input="start_at_step")
    taken = steps - start
    # A denoise by which KSampler comes to the same sigmas, just below the share, as it cuts steps / denoise off.
    return _sampled(here, guidance, noise, taken, taken / steps * (1 - 1e-9) if start else 1.0, latents)


def _custom(here: Here) -> object:
    guidance, latents, sigmas, _ = here.together(
        lambda: _guided(here),
        lambda: here.take("latent_image", v.Latents, v.Edit),
        lambda: here.take("sigmas", v.Sigmas),
        lambda: here.take("sampler", v.Sampler),
    )
    noise = v.Noise(here.integer("noise_seed"), here.flag("add_noise", True))
    drawn = _sampled(here, guidance, noise, sigmas.steps, sigmas.denoise, latents)
    return drawn, drawn


def _custom_advanced(here: Here) -> object:
    guidance, latents, sigmas, noise, _ = here.together(
        lambda: here.take("guider", v.Guidance),
        lambda: here.take("latent_image", v.Latents, v.Edit),
        lambda: here.take("sigmas", v.Sigmas),
        lambda: here.take("noise", v.Noise),
        lambda: here.take("sampler", v.Sampler),
    )
    drawn = _sampled(here, guidance, noise, sigmas.steps, sigmas.denoise, latents)
    return drawn, drawn


def _guided(here: Here) -> v.Guidance:
    model, positive, negative = here.together(
        lambda: here.take("model", v.Model),
        lambda: here.take("positive", v.Prompt),
        lambda: here.take("negative", v.Prompt),
    )
    return v.Guidance(model, positive, negative, here.number("cfg", 8.0))


def _sampled(
    here: Here,
    guidance: v.Guidance,
    noise: v.Noise,
    steps: int,
    denoise: float,
    latents: v.Latents | v.Edit,
) -> v.Edit:
    """The edit, or a pass over one: ``steps``, the last of a schedule of ``steps / denoise``."""
    if not noise.on:
        here.refuse("it adds no noise.", "Turn add_noise on: an edit is drawn from noise.", input="add_noise")
    if not 1.0 <= guidance.scale <= limits.CFG_SCALE:
        here.refuse(
            f"cfg is {guidance.scale:g}, not 1 to {limits.CFG_SCALE:g}.", "Choose 1 for no guidance.", input="cfg"
        )
    if not 1 <= steps <= limits.STEPS:
        here.refuse(f"it takes {steps} steps, not 1 to {limits.STEPS}.", "Take fewer steps.", input="steps")
    if denoise < _LEAST:
        here.refuse(f"denoise is {denoise:g}, less than {_LEAST:g}.", "Raise it.", input="denoise")
    whole = denoise > _ALL
    seed, differs = noise.seed % (limits.SEED + 1), ""
    if seed != noise.seed:
        differs = f"The seed is taken modulo {limits.SEED + 1}."
    elif here.node.inputs.get("scheduler") == "sgm_uniform":
        differs = _NEARLY_SIMPLE
    scale = f"cfg {guidance.scale:g}" if guidance.scale > 1 else "without guidance"
    here.became(f"{steps} steps{'' if whole else f' of denoise {denoise:g}'}, {scale}, seed {seed}", differs)
    if isinstance(latents, v.Edit):
        if whole:
            here.refuse(
                "it draws all of a result again, of which nothing would stay.",
                "Lower denoise, or run it alone.",
                input="denoise",
            )
        return _over(here, guidance, latents, v.Pass(denoise, steps, seed))
    if whole:
        return v.Edit(here.id, guidance, seed, steps, latents)
    if latents.start is None:
        here.refuse(
            "it begins in the middle, from nothing.", "Set denoise to 1, or begin from VAEEncode.", input="denoise"
        )
    return v.Edit(here.id, guidance, seed, steps, latents, (v.Pass(denoise, steps, seed),), over_start=True)


def _over(here: Here, guidance: v.Guidance, edit: v.Edit, added: v.Pass) -> v.Edit:
    first = edit.guidance
    same = (guidance.positive.text, guidance.positive.kept, guidance.model.loras) == (
        first.positive.text,
        first.positive.kept,
        first.model.loras,
    )
    if not same:
        here.refuse(
            "it goes over a result with another prompt, pictures or LoRAs.",
            "Save the first result, and edit that in a workflow of its own.",
            input="positive",
        )
    if edit.latents.mask is not None:
        here.refuse(
            "it goes over all of a masked result.", "Save the first result, and edit that.", input="latent_image"
        )
    if added.seed != edit.seed:
        here.became("a pass over the result", "Its noise is of the first sampler's seed.")
    if len(edit.passes) >= limits.PASSES:
        here.refuse(f"more than {limits.PASSES} passes over one result.", "Take one out.", input="latent_image")
    return replace(edit, passes=(*edit.passes, added))


def _euler(here: Here) -> str:
    name = here.text("sampler_name", "euler")
    if name not in SAMPLERS:
        here.refuse(
            f"the sampler {name} takes other steps.",
            f"{_EULER}: --set {here.id}.sampler_name=euler",
            input="sampler_name",
        )
    return name


def _simple(here: Here) -> str:
    name = here.text("scheduler", "simple")
    if name not in SCHEDULES:
        here.refuse(
            f"the scheduler {name} has other sigmas.",
            f"{_SIMPLE}: --set {here.id}.scheduler=simple",
            input="scheduler",
        )
    return name


def _sampler(here: Here) -> object:
    name = _euler(here)
    here.became(f"the sampler {name}, as the daemon's")
    return v.Sampler(name)


def _schedule(here: Here) -> object:
    _, name = here.together(lambda: here.take("model", v.Model), lambda: _simple(here))
    steps, denoise = here.integer("steps"), here.number("denoise", 1.0)
    here.became(f"a schedule of {steps} steps", "" if name == "simple" else _NEARLY_SIMPLE)
    return v.Sigmas(name, steps, denoise)


def _noise(here: Here) -> object:
    seed = here.integer("noise_seed")
    here.became(f"the seed {seed}")
    return v.Noise(seed)


def _guider(here: Here) -> object:
    found = _guided(here)
    here.became(f"cfg {found.scale:g}")
    return found


def _basic_guider(here: Here) -> object:
    model, prompt = here.together(lambda: here.take("model", v.Model), lambda: here.take("conditioning", v.Prompt))
    here.became("without guidance")
    return v.Guidance(model, prompt, None, 1.0)


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "KSampler": _ksampler,
    "KSamplerAdvanced": _advanced,
    "SamplerCustom": _custom,
    "SamplerCustomAdvanced": _custom_advanced,
    "KSamplerSelect": _sampler,
    "BasicScheduler": _schedule,
    "RandomNoise": _noise,
    "CFGGuider": _guider,
    "BasicGuider": _basic_guider,
}

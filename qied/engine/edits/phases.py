"""The phases of an edit in order, as generators that yield after each bounded unit of work."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from qied.edit import EditSpec
from qied.engine.edits.context import Advance, EditInputs, EngineContext, HeldBytes, PictureAtSize
from qied.engine.edits.denoise import (
    PATCH,
    Conditioning,
    VelocityRequest,
    clean_estimate,
    euler_step,
    guided,
    initial_noise,
    pack,
    unpack,
    velocity_request,
)
from qied.engine.edits.mask import KeptSource, composite, editable_tokens, fit_mask
from qied.engine.edits.scene_cache import SceneCache
from qied.engine.sigmas import lightning_schedule, sigma_schedule
from qied.engine.text.encoder import VisionFeatures
from qied.engine.transformer.modulation_table import ModulationTable
from qied.planning.forward_layout import Tokens
from qied.planning.memory import step_bytes
from qied.scheduling.sweep import StepNeeds

T = TypeVar("T")


@dataclass(frozen=True)
class Embeddings:
    """What the prompts say: [1, tokens, hidden] each; ``negative`` only with guidance."""

    positive: Tensor
    negative: Tensor | None


Units = Generator[Advance | VelocityRequest, list[Tensor], T]
"""Yields after each unit of work, and within a step where it needs velocities, which are sent to it."""


def run_edit(context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes) -> Units[None]:
    """Carry out one edit; the last unit brings the result."""
    drawn = _given(inputs) if inputs.spec.only_upscales else (yield from draw(context, inputs, cache, held))
    if inputs.spec.upscale:
        yield from upscale(context, inputs.spec, drawn)


def _given(inputs: EditInputs) -> Image.Image:
    """The picture that is only upscaled."""
    picture = inputs.pictures[inputs.spec.images[0]]
    return picture.resize((inputs.spec.width, inputs.spec.height), Image.Resampling.LANCZOS)


def draw(context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes) -> Units[Image.Image]:
    """Draw the picture that was asked for, and return it; its last unit brings it, unless it is to be upscaled."""
    embeddings = yield from encode_prompts(context, inputs, cache, held)
    encoded = yield from encode_images(context, inputs, cache, held)
    inputs.pictures_are_encoded()
    latents = yield from denoise(context, inputs, embeddings, encoded, held)
    last = decode(context, inputs, latents)
    assert last.image is not None
    del latents
    yield replace(last, image=None) if inputs.spec.upscale else last
    return last.image


def upscale(context: EngineContext, spec: EditSpec, drawn: Image.Image) -> Units[None]:
    """Upscale a picture, a unit for each tile, in the memory that decoding it may take."""
    room = context.decode_room(spec.width, spec.height)
    for tile, tiles, image in context.upscalers.upscaled(drawn, spec.upscale, room):
        yield Advance("upscale", tile, tiles, image=image)


def encode_prompts(context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes) -> Units[Embeddings]:
    """Return the embeddings; one unit for each prompt, and for each picture's vision features, not in the cache."""
    spec, encoder = inputs.spec, context.models.text_encoder
    negative = spec.negative_prompt if spec.guided else None
    prompts = dict.fromkeys(prompt for prompt in (spec.prompt, negative) if prompt is not None)
    found: dict[str, Tensor] = {}
    for prompt in prompts:
        embeddings = cache.get("prompt", (prompt, spec.images), Tensor)
        if embeddings is not None:
            found[prompt] = embeddings
    missing = [prompt for prompt in prompts if prompt not in found]
    if missing:
        features = yield from encode_vision(context, inputs, cache, held, len(missing))
        for index, prompt in enumerate(missing, 1):
            found[prompt] = encoder.prompt_embeddings(prompt, features.in_order)
            cache.put("prompt", (prompt, spec.images), found[prompt])
            held.hold("embeddings", *found.values())
            yield Advance("encode_prompt", features.computed + index, features.computed + len(missing))
    held.hold("vision")
    held.hold("embeddings", *found.values())
    return Embeddings(found[spec.prompt], None if negative is None else found[negative])


@dataclass(frozen=True)
class VisionEncoding:
    """Vision features of an edit's pictures in order, and how many of them were computed just now."""

    in_order: list[VisionFeatures]
    computed: int


def encode_vision(
    context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes, prompts_to_come: int
) -> Units[VisionEncoding]:
    """Return the vision features of every picture; one unit for each that is not in the cache."""
    wanted = inputs.vision_inputs(context.profile)
    found: dict[PictureAtSize, VisionFeatures] = {}
    for key in dict.fromkeys(wanted):
        features = cache.get("vision", key, VisionFeatures)
        if features is not None:
            found[key] = features
    missing = [key for key in dict.fromkeys(wanted) if key not in found]
    for step, (image, size) in enumerate(missing, 1):
        features = context.models.text_encoder.vision_features(inputs.pictures[image], size)
        found[image, size] = features
        cache.put("vision", (image, size), features)
        held.hold("vision", *(picture.features for picture in found.values()))
        yield Advance("encode_prompt", step, len(missing) + prompts_to_come)
    return VisionEncoding([found[key] for key in wanted], len(missing))


def encode_images(
    context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes
) -> Units[dict[PictureAtSize, Tensor]]:
    """Return packed latents of each reference, and of a masked edit's source; one unit for each not in the cache."""
    references = inputs.references(context.profile, context.max_reference_pixels)
    wanted = dict.fromkeys([*references, inputs.source] if inputs.spec.mask else references)
    found: dict[PictureAtSize, Tensor] = {}
    for key in wanted:
        latents = cache.get("reference", key, Tensor)
        if latents is not None:
            found[key] = latents
    missing = [key for key in wanted if key not in found]
    for step, (image, size) in enumerate(missing, 1):
        latents = pack(context.models.vae.encode(inputs.pictures[image], size)).to(context.models.dtype)
        found[image, size] = latents
        cache.put("reference", (image, size), latents)
        held.hold("references", *found.values())
        yield Advance("encode_image", step, len(missing))
    held.hold("references", *found.values())
    return found


def denoise(
    context: EngineContext,
    inputs: EditInputs,
    embeddings: Embeddings,
    encoded: dict[PictureAtSize, Tensor],
    held: HeldBytes,
) -> Units[Tensor]:
    """Take the seed's noise to the picture, one unit a step; returns latents FP32 [1, C, rows, columns]."""
    spec, models = inputs.spec, context.models
    rows, columns = spec.height // models.vae.cell, spec.width // models.vae.cell
    latents = pack(initial_noise(spec.seed, models.vae.channels, rows, columns)).to(models.device)
    kept = keep_outside_mask(context, inputs, encoded, latents) if spec.mask else None
    conditioning = condition(context, inputs, embeddings, encoded)
    held.hold("latents", latents, *(kept.tensors if kept else ()))
    held.hold("conditioning", conditioning.references, conditioning.rotation.image, conditioning.rotation.text)
    schedule = lightning_schedule(models.schedule) if spec.schedule == "lightning" else models.schedule
    sigmas = sigma_schedule(schedule, spec.steps, latents.shape[1])
    needs = step_needs(context, inputs, conditioning.tokens(latents))
    table = yield from prepare_steps(context, inputs, sigmas, held, needs)
    modulation = models.transformer.step_rows(table)
    held.hold("modulation", modulation)
    for step in range(1, spec.steps + 1):
        loras = context.loras.branches(inputs.loras)
        around = context.loras.around(inputs.loras)
        velocities = yield velocity_request(latents, modulation.step(step - 1), conditioning, loras, around)
        del loras, around
        velocity = guided(velocities, conditioning.scale)
        del velocities
        preview: Image.Image | None = None
        if spec.preview_every and step % spec.preview_every == 0 and step < spec.steps:
            clean = clean_estimate(latents, velocity, sigmas[step - 1])
            shown = kept.restore(clean, sigmas[-1]) if kept else clean
            preview = context.preview.picture(unpack(shown, rows, columns))
            del clean, shown
        latents = euler_step(latents, velocity, sigmas[step - 1], sigmas[step])
        # Between units an edit holds what its held says, while others compute.
        del velocity
        if kept:
            latents = kept.restore(latents, sigmas[step])
        held.step = needs if step < spec.steps else None
        yield Advance("denoise", step, spec.steps, preview=preview)
    held.hold("modulation")
    return unpack(latents, rows, columns)


def step_needs(context: EngineContext, inputs: EditInputs, forwards: Sequence[Tokens]) -> StepNeeds:
    """What each step of an edit adds to those of others, with the tokens of each of its ``forwards``."""
    return StepNeeds(step_bytes(context.models.transformer.shape, forwards), context.loras.sizes(inputs.loras))


def prepare_steps(
    context: EngineContext, inputs: EditInputs, sigmas: Tensor, held: HeldBytes, needs: StepNeeds
) -> Units[ModulationTable]:
    """Load the LoRAs, a unit each, and return the modulation of all steps of a schedule.

    That takes some units of work where no edit has had it lately. Where steps of several edits go together there is one
    in any case, so that the scheduler sees the first step coming.
    """
    for done, loras in context.loras.load(inputs.loras):
        yield Advance("prepare_steps", done, loras)
    blocks = context.profile.architecture.layers
    making = context.models.transformer.modulation_table(sigmas[:-1], context.loras.modulation(inputs.loras))
    while True:
        try:
            done, _ = next(making)
        except StopIteration as made:
            table: ModulationTable = made.value
            break
        if done < blocks or context.sweep_room is None:
            yield Advance("prepare_steps", done, blocks)
    if context.sweep_room is not None:
        held.step = needs
        yield Advance("prepare_steps", blocks, blocks)
    return table


def keep_outside_mask(
    context: EngineContext, inputs: EditInputs, encoded: dict[PictureAtSize, Tensor], noise: Tensor
) -> KeptSource:
    """Fit the mask to the latents of a masked edit."""
    assert inputs.spec.mask is not None
    vae = context.models.vae
    mask = fit_mask(inputs.pictures[inputs.spec.mask], inputs.spec.width, inputs.spec.height)
    editable = editable_tokens(mask, vae.channels, vae.cell).to(context.models.device)
    return KeptSource(encoded[inputs.source].float(), noise, editable)


def condition(
    context: EngineContext, inputs: EditInputs, embeddings: Embeddings, encoded: dict[PictureAtSize, Tensor]
) -> Conditioning:
    """Collect what every step sees: references behind the target, embeddings, and the shapes of all in tokens."""
    references = inputs.references(context.profile, context.max_reference_pixels)
    token = context.models.vae.cell * PATCH
    sizes = [(inputs.spec.width, inputs.spec.height), *(size for _, size in references)]
    shapes = [(1, height // token, width // token) for width, height in sizes]
    longest = max(text.shape[1] for text in (embeddings.positive, embeddings.negative) if text is not None)
    return Conditioning(
        references=torch.cat([encoded[key] for key in references], dim=1),
        rotation=context.models.transformer.rotation(shapes, longest),
        positive=embeddings.positive,
        negative=embeddings.negative,
        scale=inputs.spec.true_cfg_scale,
    )


def decode(context: EngineContext, inputs: EditInputs, latents: Tensor) -> Advance:
    """Decode the latents to the result and lay it over the source through the mask, where there is one."""
    image = context.models.vae.decode(latents)
    if inputs.spec.mask is not None:
        name, size = inputs.source
        source = inputs.pictures[name].resize(size, Image.Resampling.LANCZOS)
        image = composite(image, source, fit_mask(inputs.pictures[inputs.spec.mask], *size))
    return Advance("decode", 1, 1, image=image)

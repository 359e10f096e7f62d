"""The phases of an edit in order, as generators that yield after each bounded unit of work."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from qied.edit import EditSpec
from qied.engine.edits.context import Advance, Drawing, EditInputs, EngineContext, HeldBytes
from qied.engine.edits.denoise import (
    PATCH,
    Conditioning,
    VelocityRequest,
    clean_estimate,
    euler_step,
    guided,
    initial_noise,
    noise_as_comfyui,
    pack,
    unpack,
    velocity_request,
    whole_tokens,
)
from qied.engine.edits.guidance import guided_as_comfyui
from qied.engine.edits.mask import KeptSource, black_and_white, composite, editable_tokens
from qied.engine.edits.region import Below, region_marks
from qied.engine.edits.scene_cache import SceneCache
from qied.engine.sigmas import lightning_schedule, sigma_schedule, simple_sigmas
from qied.engine.text.encoder import VisionFeatures
from qied.engine.transformer.modulation_table import ModulationTable
from qied.pictures.reduced import colours_of
from qied.planning.edits.view import View
from qied.planning.edits.views import PictureView, mask_view
from qied.planning.layout.forward_layout import Tokens, TransformerShape
from qied.planning.layout.memory import step_bytes
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
    """Carry out one edit with all of its passes; the last unit brings the result."""
    spec = inputs.spec
    if spec.only_upscales:
        drawn = inputs.seen(spec.images[0], View(*spec.drawn_size))
    else:
        drawn = yield from draw_passes(context, inputs, cache, held)
    if spec.upscale:
        yield from upscale(context, spec, drawn)


def draw_passes(context: EngineContext, inputs: EditInputs, cache: SceneCache, held: HeldBytes) -> Units[Image.Image]:
    """Draw all passes and return the picture; the last unit brings it, unless it is to be upscaled."""
    spec = inputs.spec
    brings = not spec.upscale
    if spec.canvas is None:
        latents = yield from draw(context, inputs, inputs.first_pass(), None, cache, held)
        picture = decode(context, inputs, latents)
        del latents
        if not spec.passes:
            yield Advance("decode", 1, 1, image=picture if brings else None)
            return picture.crop((0, 0, *spec.drawn_size))
        held.parts.clear()
        picture = picture.crop((0, 0, *spec.drawn_size))
        yield Advance("decode", 1, 1)
    else:
        picture = inputs.canvas()
    for number, each in enumerate(spec.passes, 1):
        drawing = inputs.drawing_of(each)
        below = Below(picture, region_marks(inputs, each, drawing), drawing)
        latents = yield from draw(context, inputs, drawing, below, cache, held)
        picture = below.with_drawn(context.models.vae.decode(latents))
        del latents, below
        held.parts.clear()
        yield Advance("decode", 1, 1, image=picture if brings and number == len(spec.passes) else None)
    return picture


def upscale(context: EngineContext, spec: EditSpec, drawn: Image.Image) -> Units[None]:
    """Upscale a picture, a unit for each tile, in the memory that decoding it may take."""
    room = context.decode_room(spec.width, spec.height)
    for tile, tiles, image in context.upscalers.upscaled(drawn, spec.upscale, room):
        yield Advance("upscale", tile, tiles, image=image)


def draw(
    context: EngineContext,
    inputs: EditInputs,
    drawing: Drawing,
    below: Below | None,
    cache: SceneCache,
    held: HeldBytes,
) -> Units[Tensor]:
    """Carry out one pass up to its latents FP32 [1, C, rows, columns]; ``below`` is what it is drawn over."""
    embeddings = yield from encode_prompts(context, inputs, drawing, cache, held)
    encoded = yield from encode_images(context, inputs, drawing, cache, held)
    if below is not None:
        # It changes with every pass, so no cache keeps it.
        start = pack(context.models.vae.encode(below.view, drawing.size))
        held.hold("start", start)
        yield Advance("encode_image", 1, 1)
        noise = pack(_noise(context, inputs, drawing)).to(context.models.device)
        kept = below.kept(context.models.vae, start, noise)
    else:
        inputs.pictures_are_encoded()
        start, noise = None, pack(_noise(context, inputs, drawing)).to(context.models.device)
        kept = keep_outside_mask(context, inputs, drawing, encoded, noise) if drawing.seen.source else None
    latents = yield from denoise(
        context, inputs, drawing, PassStart(start, noise, kept, below), embeddings, encoded, held
    )
    return latents


def _noise(context: EngineContext, inputs: EditInputs, drawing: Drawing) -> Tensor:
    cell = context.models.vae.cell
    width, height = drawing.size
    shape = context.models.vae.channels, height // cell, width // cell
    if inputs.spec.compat is not None:
        return noise_as_comfyui(inputs.spec.seed, *shape)
    return initial_noise(inputs.spec.seed, *shape)


@dataclass(frozen=True)
class PassStart:
    """The tensors FP32 [1, tokens, C * 4] that a pass begins from: what is drawn over, if anything, and the noise.

    ``kept`` is what may not change; ``below`` is what the pass is drawn over as a picture.
    """

    over: Tensor | None
    noise: Tensor
    kept: KeptSource | None
    below: Below | None

    def latents(self, sigma: Tensor) -> Tensor:
        """What is drawn over, noised to ``sigma`` as diffusers' ``scale_noise`` does it; without that, the noise."""
        return self.noise if self.over is None else (1 - sigma) * self.over + sigma * self.noise

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a pass holds of these besides its latents."""
        return (*((self.over,) if self.over is not None else ()), *(self.kept.tensors if self.kept else ()))


def encode_prompts(
    context: EngineContext, inputs: EditInputs, drawing: Drawing, cache: SceneCache, held: HeldBytes
) -> Units[Embeddings]:
    """Return the embeddings; one unit for each prompt, and for each picture's vision features, not in the cache."""
    spec, encoder = inputs.spec, context.models.text_encoder
    negative = spec.negative_prompt if spec.guided else None
    prompts = dict.fromkeys(prompt for prompt in (spec.prompt, negative) if prompt is not None)
    found: dict[str, Tensor] = {}
    pictures = tuple(drawing.seen.vision)
    for prompt in prompts:
        embeddings = cache.get("prompt", (prompt, pictures), Tensor)
        if embeddings is not None:
            found[prompt] = embeddings
    missing = [prompt for prompt in prompts if prompt not in found]
    if missing:
        features = yield from encode_vision(context, inputs, drawing, cache, held, len(missing))
        for index, prompt in enumerate(missing, 1):
            found[prompt] = encoder.prompt_embeddings(prompt, features.in_order)
            cache.put("prompt", (prompt, pictures), found[prompt])
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
    context: EngineContext,
    inputs: EditInputs,
    drawing: Drawing,
    cache: SceneCache,
    held: HeldBytes,
    prompts_to_come: int,
) -> Units[VisionEncoding]:
    """Return the vision features of every picture; one unit for each that is not in the cache."""
    wanted = drawing.seen.vision
    found: dict[PictureView, VisionFeatures] = {}
    for key in dict.fromkeys(wanted):
        features = cache.get("vision", key, VisionFeatures)
        if features is not None:
            found[key] = features
    missing = [key for key in dict.fromkeys(wanted) if key not in found]
    for step, (image, view) in enumerate(missing, 1):
        seen, encoder = inputs.seen(image, view), context.models.text_encoder
        if view.filter == "area":
            features = encoder.vision_features_as_comfyui(torch.from_numpy(colours_of(seen)))
        else:
            features = encoder.vision_features(seen, view.size)
        found[image, view] = features
        cache.put("vision", (image, view), features)
        held.hold("vision", *(picture.features for picture in found.values()))
        yield Advance("encode_prompt", step, len(missing) + prompts_to_come)
    return VisionEncoding([found[key] for key in wanted], len(missing))


def encode_images(
    context: EngineContext, inputs: EditInputs, drawing: Drawing, cache: SceneCache, held: HeldBytes
) -> Units[dict[PictureView, Tensor]]:
    """Return packed latents of each reference, and of a masked edit's source; one unit for each not in the cache."""
    seen = drawing.seen
    wanted = dict.fromkeys([*seen.references, *([seen.source] if seen.source else [])])
    found: dict[PictureView, Tensor] = {}
    for key in wanted:
        latents = cache.get("reference", key, Tensor)
        if latents is not None:
            found[key] = latents
    missing = [key for key in wanted if key not in found]
    for step, (image, view) in enumerate(missing, 1):
        latents = pack(whole_tokens(_encoded(context, inputs.seen(image, view), view))).to(context.models.dtype)
        found[image, view] = latents
        cache.put("reference", (image, view), latents)
        held.hold("references", *found.values())
        yield Advance("encode_image", step, len(missing))
    held.hold("references", *found.values())
    return found


def _encoded(context: EngineContext, seen: Image.Image, view: View) -> Tensor:
    """Latents FP32 [1, C, rows, columns] of a view."""
    if view.filter != "area":
        return context.models.vae.encode(seen, view.size)
    colours = torch.from_numpy(colours_of(seen)).permute(2, 0, 1).unsqueeze(0)
    return context.models.vae.encode_pixels(colours * 2 - 1)


def denoise(
    context: EngineContext,
    inputs: EditInputs,
    drawing: Drawing,
    start: PassStart,
    embeddings: Embeddings,
    encoded: dict[PictureView, Tensor],
    held: HeldBytes,
) -> Units[Tensor]:
    """Take what a pass starts from to the picture, one unit a step; returns latents FP32 [1, C, rows, columns]."""
    spec, models = inputs.spec, context.models
    model = models.transformer_in(drawing.precision)
    columns, rows = (side // models.vae.cell for side in drawing.size)
    sigmas = _sigmas(context, spec, drawing, start.noise.shape[1])
    steps = len(sigmas) - 1
    latents, kept = start.latents(sigmas[0]), start.kept
    conditioning = condition(context, inputs, drawing, embeddings, encoded)
    held.hold("start")
    held.hold("latents", latents, *start.tensors)
    held.hold("conditioning", conditioning.references, conditioning.rotation.image, conditioning.rotation.text)
    needs = step_needs(context, inputs, model.shape, conditioning.tokens(latents))
    table = yield from prepare_steps(context, inputs, sigmas, held, needs)
    modulation = models.transformer.step_rows(table)
    held.hold("modulation", modulation)
    for step in range(1, steps + 1):
        loras = context.loras.branches(inputs.loras)
        around = context.loras.around(inputs.loras)
        velocities = yield velocity_request(model, latents, modulation.step(step - 1), conditioning, loras, around)
        del loras, around
        if spec.compat is None:
            velocity = guided(velocities, conditioning.scale)
        else:
            velocity = guided_as_comfyui(latents, sigmas[step - 1], velocities, conditioning.scale, spec.compat)
        del velocities
        preview: Image.Image | None = None
        if spec.preview_every and step % spec.preview_every == 0 and step < steps:
            clean = clean_estimate(latents, velocity, sigmas[step - 1])
            shown = kept.restore(clean, sigmas[-1]) if kept else clean
            preview = context.preview.picture(unpack(shown, rows, columns))
            preview = preview if start.below is None else start.below.with_preview(preview)
            del clean, shown
        latents = euler_step(latents, velocity, sigmas[step - 1], sigmas[step])
        # Between units an edit holds what its held says, while others compute.
        del velocity
        if kept:
            latents = kept.restore(latents, sigmas[step])
        held.step = needs if step < steps else None
        yield Advance(drawing.phase, step, steps, preview=preview)
    held.hold("modulation")
    return unpack(latents, rows, columns)


def _sigmas(context: EngineContext, spec: EditSpec, drawing: Drawing, tokens: int) -> Tensor:
    """The sigmas FP32 of a pass that denoises so many tokens, down to the final 0."""
    if spec.compat is not None:
        return simple_sigmas(spec.compat.shift, drawing.steps, 1.0 if drawing.over is None else drawing.over.strength)
    config = context.models.schedule
    schedule = lightning_schedule(config) if spec.schedule == "lightning" else config
    return sigma_schedule(schedule, drawing.steps, tokens)[drawing.first_step :]


def step_needs(
    context: EngineContext, inputs: EditInputs, shape: TransformerShape, forwards: Sequence[Tokens]
) -> StepNeeds:
    """What each step of an edit adds to those of others, with the tokens of each of its ``forwards``."""
    return StepNeeds(step_bytes(shape, forwards), context.loras.sizes(inputs.loras))


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
    context: EngineContext, inputs: EditInputs, drawing: Drawing, encoded: dict[PictureView, Tensor], noise: Tensor
) -> KeptSource:
    """Fit the mask to the latents of a masked edit."""
    assert drawing.seen.source is not None
    vae = context.models.vae
    editable = editable_tokens(_mask(inputs), vae.channels, vae.cell).to(context.models.device)
    return KeptSource(encoded[drawing.seen.source].float(), noise, editable)


def condition(
    context: EngineContext,
    inputs: EditInputs,
    drawing: Drawing,
    embeddings: Embeddings,
    encoded: dict[PictureView, Tensor],
) -> Conditioning:
    """Collect what every step sees: references behind the target, embeddings, and the shapes of all in tokens."""
    references = drawing.seen.references
    token = context.models.vae.cell * PATCH
    sizes = [drawing.size, *(view.size for _, view in references)]
    shapes = [(1, -(-height // token), -(-width // token)) for width, height in sizes]
    longest = max(text.shape[1] for text in (embeddings.positive, embeddings.negative) if text is not None)
    # A model that makes pictures from text alone has none.
    nothing = torch.empty(1, 0, context.models.vae.channels * PATCH**2, dtype=context.models.dtype)
    latents = [nothing.to(context.models.device), *(encoded[key] for key in references)]
    return Conditioning(
        references=torch.cat(latents, dim=1),
        rotation=context.models.transformer.rotation(shapes, longest, as_comfyui=inputs.spec.compat is not None),
        positive=embeddings.positive,
        negative=embeddings.negative,
        scale=inputs.spec.true_cfg_scale,
    )


def decode(context: EngineContext, inputs: EditInputs, latents: Tensor) -> Image.Image:
    """Decode the latents to the result and lay it over the source through the mask, where there is one."""
    image = context.models.vae.decode(latents)
    if inputs.spec.mask is None:
        return image
    return composite(image, inputs.source(), _mask(inputs))


def _mask(inputs: EditInputs) -> Image.Image:
    assert inputs.spec.mask is not None
    return black_and_white(inputs.seen(inputs.spec.mask, mask_view(inputs.spec)))

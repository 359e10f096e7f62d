"""The engine: one loaded model that begins edits, with a cache for each session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from qied_client.errors import InvalidRequest

from qied.checkpoints.checkpoint import Checkpoint
from qied.edit import EditSpec
from qied.engine.allocator_bound import bound_allocator
from qied.engine.disk.cache import NO_CACHES, DiskCaches
from qied.engine.edits.context import EngineContext
from qied.engine.edits.edit import Edit
from qied.engine.edits.pacing import pacer_of
from qied.engine.edits.preview import previews_of
from qied.engine.edits.scene_cache import SceneCaches
from qied.engine.edits.sweep import Sweep
from qied.engine.lora.library import LoraLibrary
from qied.engine.models import ComponentSources, build_models, open_checkpoint, open_pipeline
from qied.engine.text.encoder import TextPositions
from qied.engine.upscale.upscaling import UpscalerLibrary
from qied.link.engine_port import Picture
from qied.loras.catalogue import LoraFile
from qied.planning.edits.geometry import MAX_ASPECT, within_aspect
from qied.planning.edits.view import View
from qied.planning.edits.views import Sight
from qied.planning.layout.memory import model_of
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.progress import OnProgress
from qied.scheduling.sweep import SweepRoom
from qied.upscalers.catalogue import UpscalerFile


@dataclass(frozen=True)
class EngineOptions:
    """How a model is run.

    ``execution`` says it in full. Without one, everything stays on ``device`` (torch's name of it), and ``dtype`` is
    that of weights and activations (latents between steps are FP32 either way). ``text_positions`` are Qwen2.5-VL's
    own ("mrope"); "plain" is what diffusers' pipeline gives it. ``loras`` are the files that edits may name; those on
    the device take ``lora_bytes`` at most. What took long to make is kept in ``caches`` for the next time, and what
    the encoders gave in ``scene_cache_bytes`` of the device, for the next turn of a session. The process may have
    ``budget_bytes`` of the device, of which the plan counts ``fixed_bytes`` without an edit; both are 0 without a plan.
    ``upscalers`` are the upscaling models by name.
    """

    device: str = "cpu"
    dtype: Literal["bf16", "fp32"] = "bf16"
    text_positions: TextPositions = "mrope"
    execution: Execution | None = None
    loras: Mapping[str, LoraFile] = field(default_factory=dict)
    lora_bytes: int = 0
    upscalers: Mapping[str, UpscalerFile] = field(default_factory=dict)
    caches: DiskCaches = NO_CACHES
    scene_cache_bytes: int = 256 << 20
    budget_bytes: int = 0
    fixed_bytes: int = 0

    def resolved(self, profile: ModelProfile) -> Execution:
        """The execution that these options mean for a model."""
        if self.execution is not None:
            return self.execution
        device = torch.device(self.device)
        layers = profile.architecture.layers
        return Execution(
            device="cuda" if device.type == "cuda" else "cpu",
            device_index=device.index or 0,
            precision=self.dtype,
            scaling=None,
            compute=self.dtype,
            total_blocks=layers,
            resident_blocks=layers,
            ring_slots=0,
            text_encoder="resident",
            encode_tile_px=None,
            decode_tile_px=None,
            pin=False,
            allocator_bytes=0,
            max_reference_pixels=profile.geometry.vae_pixels,
        )


class Engine:
    """One model on one device. Edits begun here are independent of each other, however they advance.

    It is the engine of ``qied.link.engine_port``. ``weights_bytes`` are all that is on the device without an edit: what
    the plan says, or the weights where they are more. ``caches`` has what is kept for each session, ``models`` the
    model's parts as they were loaded, and ``context`` what all edits share.
    """

    def __init__(self, context: EngineContext, execution: Execution, options: EngineOptions) -> None:
        self.context = context
        self.execution = execution
        self.options = options
        self.models = context.models
        self.sweep = Sweep(context)
        self.caches = SceneCaches(options.scene_cache_bytes)
        self.device = torch.cuda.get_device_name(execution.device_index) if execution.device == "cuda" else "CPU"
        self.precision = execution.precision
        self.model = context.profile.name
        self.weights_bytes = max(options.fixed_bytes, self.memory_bytes())
        self.budget_bytes = options.budget_bytes

    @staticmethod
    def load(
        model: Checkpoint | Path, profile: ModelProfile, options: EngineOptions, on_progress: OnProgress
    ) -> Engine:
        """Load the files of a model, or a folder in diffusers' pipeline layout.

        ``on_progress`` is called with (component, bytes read, bytes in all). Raises ModelNotFound or ModelUnsupported,
        which name the file and what to do.
        """
        opened = open_pipeline(model, profile) if isinstance(model, Path) else open_checkpoint(model, profile)
        return Engine.build(opened, profile, options, on_progress)

    @staticmethod
    def build(
        sources: ComponentSources, profile: ModelProfile, options: EngineOptions, on_progress: OnProgress
    ) -> Engine:
        """Like :meth:`load`, from weights that come from anywhere."""
        execution = options.resolved(profile)
        bound_allocator(execution)
        with torch.no_grad():
            models = build_models(sources, execution, options.text_positions, on_progress, options.caches)
        with torch.inference_mode():
            preview = previews_of(models.vae, sources.tiny_autoencoder if execution.preview_decoder else None)
        loras = LoraLibrary(options.loras, profile.architecture, models.device, models.dtype, options.lora_bytes)
        room = SweepRoom(execution.sweep_bytes, options.lora_bytes) if execution.sweeps else None
        sight = Sight(profile, execution.max_reference_pixels)
        memory = model_of(execution, profile)
        context = EngineContext(
            models,
            profile,
            preview,
            sight,
            loras,
            pacer_of(models.device),
            room,
            UpscalerLibrary(options.upscalers, models.device),
            lambda width, height: memory.decode_room(width, height, execution.decode_tile_px),
        )
        return Engine(context, execution, options)

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        """All that an edit needs of one of its pictures, whose size is (width, height)."""
        return self.context.sight.views(spec, blob, size)

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str | None) -> Edit:
        """Begin an edit; nothing is computed yet.

        ``pictures`` holds decoded sRGB pictures by the hashes of ``spec``: RGB, and L for the mask; whole, or with the
        views that ``views`` names. ``scope`` names the session whose cache is used; None keeps nothing. Raises
        InvalidRequest for what this model cannot run, and ModelUnsupported for a LoRA whose file cannot be used.
        """
        held = {image: pictures[image] for image in spec.pictures}
        self._check(spec, held)
        return Edit(self.context, spec, held, self.caches.of(scope))

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""
        self.caches.drop(scope)

    @property
    def sweep_room(self) -> SweepRoom | None:
        """Room for steps that go together (``Edit.step_needs``); None if each goes alone."""
        return self.sweep.room

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of the device that this process has, and that are free; None on the CPU.

        Besides what torch has reserved the process has its context, for which the plan leaves room in the budget.
        """
        if self.execution.device == "cpu":
            return None
        free, _ = torch.cuda.mem_get_info(self.execution.device_index)
        context = max(0, self.budget_bytes - self.execution.allocator_bytes)
        return torch.cuda.memory_reserved(self.execution.device_index) + context, free

    def memory_bytes(self) -> int:
        """Bytes of weights that stay on the device, with the rings that others pass through."""
        return self.models.device_bytes + self.context.preview.nbytes

    def host_bytes(self) -> int:
        """Bytes of weights and tables in host memory besides those; they grow by the tables of new schedules."""
        return self.models.host_bytes

    def lora_bytes(self) -> int:
        """Bytes of LoRAs that are on the device now."""
        return self.context.loras.device_bytes

    def _check(self, spec: EditSpec, pictures: Mapping[str, Picture]) -> None:
        geometry = self.context.profile.geometry
        limit = self.context.profile.max_prompt_tokens
        takes = geometry.least_references <= len(spec.images) <= geometry.max_references
        if not (takes or (spec.only_upscales and len(spec.images) == 1)):
            raise _invalid("images", f"{len(spec.images)} pictures; this model takes {geometry.references_in_words}.")
        drawn = not spec.only_upscales  # an upscaling network takes any shape
        if drawn and not all(within_aspect(*picture.size) for picture in pictures.values()):
            raise _invalid("images", f"A picture is more than {MAX_ASPECT} times as long as it is wide.")
        for name, side in (("width", spec.width), ("height", spec.height)):
            if side < geometry.side_multiple or side % geometry.side_multiple:
                raise _invalid(name, f"{side} is not a multiple of {geometry.side_multiple} pixels.")
        if spec.steps < 1:
            raise _invalid("steps", f"{spec.steps} steps; at least 1 is needed.")
        for each in spec.passes:
            self.models.transformer_in(each.precision)
        self.context.loras.check(spec.loras)
        for name, text in (("prompt", spec.prompt), ("negative_prompt", spec.negative_prompt or "")):
            if (tokens := self.models.text_encoder.tokens.count(text)) > limit:
                raise _invalid(name, f"{tokens} tokens; at most {limit} are possible.")


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", "Correct the request.", field=field)

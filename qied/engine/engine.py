"""The engine: one loaded model that begins edits; everything that a worker needs can be imported from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from qied_client.errors import InvalidRequest

from qied.edit import EditSpec
from qied.engine.cache import SceneCache
from qied.engine.checkpoint import OnProgress
from qied.engine.models import load_models
from qied.engine.preview import fit_preview
from qied.engine.stepping import Edit
from qied.engine.text_encoder import TextPositions
from qied.engine.work import Advance, Workbench
from qied.planning.geometry import MAX_ASPECT, within_aspect
from qied.planning.model_profile import ModelProfile

__all__ = ["Advance", "Edit", "Engine", "EngineOptions", "SceneCache"]

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class EngineOptions:
    """How a model is run.

    ``device`` is torch's name of it; ``dtype`` that of the weights and activations (latents between steps are FP32
    either way). ``text_positions`` are Qwen2.5-VL's own ("mrope"); "plain" is what diffusers' pipeline gives it.
    """

    device: str = "cpu"
    dtype: Literal["bf16", "fp32"] = "bf16"
    text_positions: TextPositions = "mrope"


class Engine:
    """One model on one device. Edits begun here are independent of each other, in whatever order they advance."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    @staticmethod
    def load(folder: Path, profile: ModelProfile, options: EngineOptions, on_progress: OnProgress) -> Engine:
        """Load a model folder in diffusers' pipeline layout.

        ``on_progress`` is told (component, bytes read, bytes in all). Raises ModelNotFound or ModelUnsupported, which
        name the file and what to do.
        """
        device = torch.device(options.device)
        models = load_models(
            folder,
            profile,
            device=device,
            dtype=_DTYPES[options.dtype],
            positions=options.text_positions,
            on_progress=on_progress,
        )
        with torch.inference_mode():
            preview = fit_preview(models.vae)
        return Engine(Workbench(models, profile, preview))

    def begin(self, spec: EditSpec, pictures: Mapping[str, Image.Image], cache: SceneCache) -> Edit:
        """Begin an edit; nothing is computed yet.

        ``pictures`` holds decoded sRGB pictures by the hashes of ``spec``: RGB, and L for the mask. ``cache`` belongs
        to one session on this engine. Raises InvalidRequest for what this model cannot run.
        """
        held = {image: pictures[image] for image in (*spec.images, spec.mask) if image is not None}
        self._check(spec, held)
        return Edit(self._bench, spec, held, cache)

    def memory_bytes(self) -> int:
        """Bytes of weights that stay on the device."""
        return self._bench.models.memory_bytes()

    def _check(self, spec: EditSpec, pictures: Mapping[str, Image.Image]) -> None:
        geometry = self._bench.profile.geometry
        limit = self._bench.profile.max_prompt_tokens
        if not 1 <= len(spec.images) <= geometry.max_references:
            raise _invalid("images", f"{len(spec.images)} pictures; 1 to {geometry.max_references} are possible.")
        if not all(within_aspect(*picture.size) for picture in pictures.values()):
            raise _invalid("images", f"A picture is more than {MAX_ASPECT} times as long as it is wide.")
        for name, side in (("width", spec.width), ("height", spec.height)):
            if side < geometry.side_multiple or side % geometry.side_multiple:
                raise _invalid(name, f"{side} is no multiple of {geometry.side_multiple} pixels.")
        if spec.steps < 1:
            raise _invalid("steps", f"{spec.steps} steps; at least 1 is needed.")
        for name, text in (("prompt", spec.prompt), ("negative_prompt", spec.negative_prompt or "")):
            if (tokens := self._bench.models.text_encoder.tokens.count(text)) > limit:
                raise _invalid(name, f"{tokens} tokens; at most {limit} are possible.")


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", "Correct the request.", field=field)

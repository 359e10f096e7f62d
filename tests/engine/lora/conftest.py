"""LoRAs of the built-in model, and engines that know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from qied.engine.engine import Engine, EngineOptions
from qied.engine.lora.library import LoraLibrary
from qied.engine.transformer.transformer import Transformer
from qied.loras.catalogue import Catalogue, find_loras
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder

Write = Callable[..., dict[str, Any]]
Make = Callable[..., Transformer]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, write_lora: Write) -> Path:
    """Three LoRAs of 4, 4 and 2 ranks; the last one changes the modulation as well."""
    folder = tmp_path_factory.mktemp("loras")
    write_lora(folder / "one.safetensors", style="kohya", alpha=8.0, seed=1)
    write_lora(folder / "two.safetensors", style="lightning", alpha=2.0, seed=2, blocks=(1, 4))
    modules = ("attn.to_v", "attn.add_k_proj", "img_mlp.net.2", "img_mod.1", "txt_mod.1")
    write_lora(folder / "moved.safetensors", seed=3, rank=2, modules=modules)
    return folder


@pytest.fixture(scope="session")
def catalogue(folder: Path, profile: ModelProfile) -> Catalogue:
    """The LoRAs of that folder."""
    return find_loras([folder], profile.architecture)


@pytest.fixture
def library(catalogue: Catalogue, profile: ModelProfile) -> Callable[..., LoraLibrary]:
    """Make a library on the CPU with a limit in bytes."""

    def make(limit: int = 1 << 30, dtype: torch.dtype = torch.float32) -> LoraLibrary:
        return LoraLibrary(catalogue.files, profile.architecture, torch.device("cpu"), dtype, limit)

    return make


@pytest.fixture(scope="session")
def load_with_loras(
    catalogue: Catalogue, profile: ModelProfile, execution: Callable[..., Execution]
) -> Callable[..., Engine]:
    """Load an engine that knows them; any field of the execution can be replaced."""

    def load(lora_bytes: int = 1 << 30, **changes: object) -> Engine:
        options = EngineOptions(execution=execution(**changes), loras=catalogue.files, lora_bytes=lora_bytes)
        return Engine.load(builtin_model_folder(), profile, options, lambda *_: None)

    return load


@pytest.fixture
def merged() -> Callable[..., Tensor]:
    """The velocity of diffusers' model with these additions (FP64) to its weights, or to a bias that is named so."""

    def run(scene: Any, added: list[tuple[dict[str, Tensor], float]]) -> Tensor:
        model = QwenImageTransformer2DModel.from_pretrained(
            builtin_model_folder() / "transformer", torch_dtype=torch.float32
        )
        for additions, strength in added:
            for name, addition in additions.items():
                weight = model.get_parameter(name if name.endswith(".bias") else f"{name}.weight")
                weight.copy_(weight.double() + strength * addition)
        output = model(
            hidden_states=torch.cat([scene.latents, scene.references], dim=1),
            timestep=scene.sigmas[scene.step].reshape(1),
            encoder_hidden_states=scene.embeddings,
            encoder_hidden_states_mask=None,
            img_shapes=[list(scene.shapes)],
            return_dict=False,
        )[0]
        return output[:, : scene.latents.shape[1]]

    return run


@pytest.fixture
def branched(make_transformer: Make, profile: ModelProfile) -> Callable[..., Tensor]:
    """The velocity of the engine's transformer with LoRAs beside its weights."""

    def run(scene: Any, folder: Path, choices: list[LoraChoice]) -> Tensor:
        transformer = make_transformer()
        found = find_loras([folder], profile.architecture)
        library = LoraLibrary(found.files, profile.architecture, torch.device("cpu"), torch.float32, 1 << 30)
        forward = scene.forward(transformer, torch.float32)
        making = transformer.modulation_table(scene.sigmas, library.modulation(choices))
        while True:
            try:
                next(making)
            except StopIteration as end:
                modulation = transformer.step_rows(end.value).step(scene.step)
                break
        beside = {"loras": library.branches(choices), "around": library.around(choices)}
        forward = replace(forward, modulation=modulation, **beside)
        return transformer.velocities([forward])[0]

    return run

"""LoRAs against diffusers' own pipeline, which loads the same files through PEFT: every style, in FP32 and BF16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageEditPlusPipeline, QwenImageTransformer2DModel
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from qied.engine.lora.library import LoraLibrary
from qied.engine.transformer.transformer import Transformer
from qied.loras.catalogue import find_loras
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_loras_folder, builtin_model_folder
from tests.engine.conftest import made

STYLES: dict[str, dict[str, float]] = {
    "diffusers": {},
    "comfyui": {"alpha": 8.0},
    "lightning": {"alpha": 2.0},
    "lightning-comfyui": {"alpha": 2.0},
    "kohya": {"alpha": 6.0},
}
"""Styles that diffusers reads, each with the alpha that such files have; see test_parity for the others."""
ROUNDING = 0.02
"""Two BF16 forwards that differ in the order of their sums are this far apart; a LoRA moves one by more."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def of_diffusers() -> Callable[..., Tensor]:
    """The velocity of diffusers' model with LoRAs that its pipeline has loaded."""

    def run(scene: Any, files: list[tuple[Path, float]], dtype: torch.dtype) -> Tensor:
        folder = builtin_model_folder()
        with torch.inference_mode(False):
            transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype)
            pipeline = QwenImageEditPlusPipeline(
                scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
                vae=None,
                text_encoder=None,
                tokenizer=None,
                processor=None,
                transformer=transformer,
            )
            names = [f"lora{number}" for number in range(len(files))]
            for name, (file, _) in zip(names, files, strict=True):
                pipeline.load_lora_weights(str(file), adapter_name=name)
            if files:
                pipeline.set_adapters(names, [strength for _, strength in files])
        output: Tensor = transformer(
            hidden_states=torch.cat([scene.latents, scene.references], dim=1).to(dtype),
            timestep=scene.sigmas[scene.step].reshape(1).to(dtype),
            encoder_hidden_states=scene.embeddings.to(dtype),
            encoder_hidden_states_mask=None,
            img_shapes=[list(scene.shapes)],
            return_dict=False,
        )[0]
        return output[:, : scene.latents.shape[1]].float()

    return run


@pytest.fixture
def of_the_engine(make_transformer: Callable[..., Transformer], profile: ModelProfile) -> Callable[..., Tensor]:
    """The velocity of the engine's transformer with the same files beside its weights."""

    def run(scene: Any, files: list[tuple[Path, float]], dtype: torch.dtype) -> Tensor:
        named = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
        transformer = make_transformer(precision=named, compute=named)
        found = find_loras(sorted({file.parent for file, _ in files}), profile.architecture)
        library = LoraLibrary(found.files, profile.architecture, torch.device("cpu"), dtype, 1 << 30)
        choices = [LoraChoice(file.stem, strength) for file, strength in files]
        table = made(transformer.modulation_table(scene.sigmas, library.modulation(choices)))
        forward = replace(
            scene.forward(transformer, dtype),
            modulation=transformer.step_rows(table).step(scene.step),
            loras=library.branches(choices) if choices else (),
        )
        return transformer.velocities([forward])[0]

    return run


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("style", STYLES)
def test_each_style_gives_what_diffusers_gives_with_peft(
    tmp_path: Path,
    write_lora: Callable[..., dict[str, Tensor]],
    inputs: Callable[..., Any],
    of_diffusers: Callable[..., Tensor],
    of_the_engine: Callable[..., Tensor],
    style: str,
) -> None:
    write_lora(tmp_path / "a.safetensors", style=style, **STYLES[style])
    scene, files = inputs(0, (4, 5), (3, 3)), [(tmp_path / "a.safetensors", 0.7)]
    exact = of_diffusers(scene, files, torch.float32)
    assert apart(of_the_engine(scene, files, torch.float32), exact) < 1e-5
    assert apart(of_the_engine(scene, [], torch.float32), exact) > 3 * ROUNDING, "this LoRA changes nothing much"
    rounded = of_diffusers(scene, files, torch.bfloat16)
    assert apart(of_the_engine(scene, files, torch.bfloat16), exact) < max(ROUNDING, 1.2 * apart(rounded, exact))


@pytest.mark.parametrize("name", ["builtin-outline", "builtin-lightning-4steps"])
def test_the_loras_that_ship_give_what_diffusers_gives_with_peft(
    inputs: Callable[..., Any],
    of_diffusers: Callable[..., Tensor],
    of_the_engine: Callable[..., Tensor],
    name: str,
) -> None:
    scene, files = inputs(1, (8, 8), (8, 8)), [(builtin_loras_folder() / f"{name}.safetensors", 1.0)]
    assert apart(of_the_engine(scene, files, torch.float32), of_diffusers(scene, files, torch.float32)) < 1e-5


@pytest.mark.filterwarnings("ignore:Already found a .peft_config. attribute:UserWarning")
def test_several_at_once_add_up_as_in_diffusers(
    tmp_path: Path,
    write_lora: Callable[..., dict[str, Tensor]],
    inputs: Callable[..., Any],
    of_diffusers: Callable[..., Tensor],
    of_the_engine: Callable[..., Tensor],
) -> None:
    write_lora(tmp_path / "a.safetensors", style="lightning", alpha=2.0, seed=1)
    write_lora(tmp_path / "b.safetensors", style="diffusers", rank=6, seed=2)
    scene = inputs(0, (4, 5), (3, 3))
    files = [(tmp_path / "a.safetensors", 0.5), (tmp_path / "b.safetensors", -0.4)]
    assert apart(of_the_engine(scene, files, torch.float32), of_diffusers(scene, files, torch.float32)) < 1e-5

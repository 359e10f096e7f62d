"""The full-size architecture of 2511 with random weights: what a checkpoint would give, without one."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from part_runs.dense_source import DenseSource
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from memory_bench.architecture import SCHEDULE, TEXT, TRANSFORMER, VAE, VISION
from qied.engine.models import ComponentSources, open_pipeline
from qied.engine.sigmas import schedule_config
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder


class RandomSource(DenseSource):
    """Weights of the given shapes, drawn when they are read: on ``device``, the same ones each time, by their names.

    ``kept`` weights are drawn once and stay on the CPU, as a file in the page cache would.
    """

    def __init__(self, component: str, shapes: Mapping[str, torch.Size], device: torch.device, *, kept: bool) -> None:
        self.component = component
        self.nbytes = 2 * sum(math.prod(shape) for shape in shapes.values())
        self._shapes = dict(shapes)
        self._device = device
        self._kept: dict[str, Tensor] | None = {} if kept else None

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._shapes.keys()

    def origin(self, name: str) -> str:
        """Where a tensor comes from."""
        return f"{self.component} at random"

    def read(self, name: str) -> Tensor:
        """Draw a tensor in BF16: linears keep the size of what goes through them, norms are 1."""
        if self._kept is None:
            return self.draw(name)
        if name not in self._kept:
            self._kept[name] = self.draw(name).cpu()
        return self._kept[name]

    def kept_bytes(self) -> int:
        """Bytes of the weights that stay."""
        return sum(tensor.nbytes for tensor in (self._kept or {}).values())

    def draw(self, name: str) -> Tensor:
        """Draw a tensor anew."""
        shape = self._shapes[name]
        if len(shape) == 1 or name.endswith("gamma"):
            fill = 0.0 if name.endswith("bias") else 1.0
            return torch.full(shape, fill, dtype=torch.bfloat16, device=self._device)
        return self.normal(name).mul_(0.5 / math.sqrt(math.prod(shape[1:])))

    def normal(self, name: str) -> Tensor:
        """Normally distributed numbers BF16 of a tensor's shape, always the same ones for its name."""
        generator = torch.Generator(self._device).manual_seed(zlib.crc32(f"{self.component}/{name}".encode()))
        return torch.randn(self._shapes[name], generator=generator, dtype=torch.bfloat16, device=self._device)


def transformer_source(config: Mapping[str, Any], device: torch.device) -> RandomSource:
    """Weights of a transformer of diffusers' configuration ``config``, drawn on ``device`` each time."""
    return RandomSource("transformer", transformer_shapes(config), device, kept=False)


def transformer_shapes(config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Shapes of a transformer's tensors by their names."""
    with torch.device("meta"):
        model = QwenImageTransformer2DModel(**config)
    return _shapes_of(model)


@cache
def _shapes(kind: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model: nn.Module = AutoencoderKLQwenImage(**VAE) if kind == "vae" else Qwen2_5_VLModel(text_config())
    return _shapes_of(model)


def _shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def text_config() -> Qwen2_5_VLConfig:
    """Configuration of the text encoder."""
    return Qwen2_5_VLConfig(text_config=dict(TEXT), vision_config=dict(VISION))


def sources(device: torch.device, *, keep_text_encoder: bool = True) -> tuple[ComponentSources, RandomSource]:
    """All components, and the text encoder's weights again, which stay in the host's memory unless told otherwise.

    Tokenizer and picture processor are those of the built-in model, which see the same sizes.
    """
    builtin = open_pipeline(builtin_model_folder(), shipped_profiles()["builtin"])
    text_encoder = RandomSource("text_encoder", _shapes("text_encoder"), device, kept=keep_text_encoder)
    vae_config: dict[str, Any] = dict(AutoencoderKLQwenImage(**{**VAE, "base_dim": 8}).config) | VAE
    components = ComponentSources(
        transformer_config=TRANSFORMER,
        transformer=transformer_source(TRANSFORMER, device),
        text_config=text_config(),
        text_encoder=text_encoder,
        vae_config=vae_config,
        vae=RandomSource("vae", _shapes("vae"), device, kept=True),
        schedule=schedule_config(SCHEDULE),
        tokens=builtin.tokens,
        processor=builtin.processor,
    )
    return components, text_encoder

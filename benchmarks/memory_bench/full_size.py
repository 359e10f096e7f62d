"""The full-size architecture of 2511 with random weights: what a checkpoint would give, without one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from qied.engine.models import ComponentSources, open_pipeline
from qied.engine.sigmas import schedule_config
from qied.engine.sources import DenseSource
from qied.planning.model_profile import shipped_profiles
from qied.resources import builtin_model_folder

TRANSFORMER = {
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "guidance_embeds": False,
    "in_channels": 64,
    "joint_attention_dim": 3584,
    "num_attention_heads": 24,
    "num_layers": 60,
    "out_channels": 16,
    "patch_size": 2,
    "zero_cond_t": True,
}
VAE = {"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
TEXT = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "patch_size": 14,
    "spatial_merge_size": 2,
}
SCHEDULE = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
}


class RandomSource(DenseSource):
    """Weights of the given shapes, drawn when they are read: on ``device``, the same ones each time.

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
            return self._draw(name)
        if name not in self._kept:
            self._kept[name] = self._draw(name).cpu()
        return self._kept[name]

    def kept_bytes(self) -> int:
        """Bytes of the weights that stay."""
        return sum(tensor.nbytes for tensor in (self._kept or {}).values())

    def _draw(self, name: str) -> Tensor:
        shape = self._shapes[name]
        if len(shape) == 1 or name.endswith("gamma"):
            fill = 0.0 if name.endswith("bias") else 1.0
            return torch.full(shape, fill, dtype=torch.bfloat16, device=self._device)
        weight = torch.randn(shape, dtype=torch.bfloat16, device=self._device)
        return weight.mul_(0.5 / math.sqrt(math.prod(shape[1:])))


@cache
def _shapes(kind: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model: nn.Module
        if kind == "transformer":
            model = QwenImageTransformer2DModel(**TRANSFORMER)
        elif kind == "vae":
            model = AutoencoderKLQwenImage(**VAE)
        else:
            model = Qwen2_5_VLModel(text_config())
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def text_config() -> Qwen2_5_VLConfig:
    """Configuration of the text encoder."""
    return Qwen2_5_VLConfig(text_config=dict(TEXT), vision_config=dict(VISION))


def sources(device: torch.device) -> tuple[ComponentSources, RandomSource]:
    """All components, and the text encoder's weights again, which stay in the host's memory.

    Tokenizer and picture processor are those of the built-in model, which see the same sizes.
    """
    builtin = open_pipeline(builtin_model_folder(), shipped_profiles()["builtin"])
    text_encoder = RandomSource("text_encoder", _shapes("text_encoder"), device, kept=True)
    vae_config: dict[str, Any] = dict(AutoencoderKLQwenImage(**{**VAE, "base_dim": 8}).config) | VAE
    components = ComponentSources(
        transformer_config=TRANSFORMER,
        transformer=RandomSource("transformer", _shapes("transformer"), device, kept=False),
        text_config=text_config(),
        text_encoder=text_encoder,
        vae_config=vae_config,
        vae=RandomSource("vae", _shapes("vae"), device, kept=True),
        schedule=schedule_config(SCHEDULE),
        tokens=builtin.tokens,
        processor=builtin.processor,
    )
    return components, text_encoder

"""The project's VAE and diffusers', with the same random weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import AutoencoderKLQwenImage
from memory_bench.full_size import RandomSource
from torch import Tensor

from qied.engine.models import ComponentSources, load_vae
from qied.engine.vae.vae import Vae
from qied.engine.weights.sources import WeightReader
from qied.planning.plan import Execution
from vae_bench.setting import DIFFUSERS_TILE, Setting

_CHANNELS, _CELL = 16, 8
_BF16 = torch.bfloat16


def ours(setting: Setting) -> Vae:
    """The project's, as an engine loads it for a card: BF16; on a CPU that is FP32."""
    device = torch.device(setting.device)
    config = dict(setting.config)
    weights = _source(setting)
    with torch.no_grad():
        # What an engine does for its VAE, without the rest of an engine.
        components = cast(ComponentSources, _Components(_whole(config), weights))
        return load_vae(components, _execution(device), _reader(weights), device, _BF16)


def diffusers_vae(setting: Setting, dtype: torch.dtype) -> Any:
    """diffusers', whole; ``statistics`` are mean and deviation of its latents, [1, 16, 1, 1] on the device."""
    config = _whole(dict(setting.config))
    with torch.device("meta"):
        model: Any = AutoencoderKLQwenImage.from_config(config)
    weights = _source(setting)
    model.load_state_dict({name: weights.read(name).to(dtype) for name in weights.names()}, assign=True)
    means, deviations = (torch.tensor(config[name], device=setting.device) for name in ("latents_mean", "latents_std"))
    model.statistics = (means.view(1, -1, 1, 1), deviations.view(1, -1, 1, 1))
    return model.eval().requires_grad_(False)


def tile(model: Any) -> None:
    """Let diffusers' VAE work in tiles of its own default size."""
    side, stride = DIFFUSERS_TILE
    model.enable_tiling(side, side, stride, stride)


def picture(setting: Setting, side: int) -> Tensor:
    """A smooth picture [1, 3, H, W] FP32 in -1..1 on the device."""
    pixels = setting.pixels(side)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, 24, 24), generator=generator).to(setting.device)
    return torch.nn.functional.interpolate(coarse, size=(pixels, pixels), mode="bilinear").mul_(2).sub_(1)


def latents(setting: Setting, side: int) -> Tensor:
    """Normalised latents [1, 16, rows, columns] FP32 on the device."""
    cells = setting.pixels(side) // _CELL
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, _CHANNELS, cells, cells), generator=generator).to(setting.device)


def diffusers_encode(model: Any, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """The mode of the latents [1, 16, rows, columns], normalised as the pipeline does it, in FP32."""
    mode = model.encode(pixels.to(dtype).unsqueeze(2)).latent_dist.mode()[:, :, 0].float()
    mean, deviation = model.statistics
    return (mode - mean) / deviation


def diffusers_decode(model: Any, normalised: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels [3, H, W] of normalised latents."""
    mean, deviation = model.statistics
    cells = (normalised * deviation + mean).to(dtype).unsqueeze(2)
    decoded: Tensor = model.decode(cells, return_dict=False)[0][0, :, 0].float()
    return decoded


class _Components:
    """What loading a VAE needs of a checkpoint."""

    def __init__(self, config: dict[str, Any], weights: RandomSource) -> None:
        self.vae_config = config
        self.vae = weights


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the statistics of latents, which have a default."""
    return dict(AutoencoderKLQwenImage(**{**config, "base_dim": 8}).config) | config


def _source(setting: Setting) -> RandomSource:
    with torch.device("meta"):
        shapes = AutoencoderKLQwenImage(**dict(setting.config)).state_dict()
    device = torch.device(setting.device)
    return RandomSource("vae", {name: tensor.shape for name, tensor in shapes.items()}, device, kept=False)


def _reader(weights: RandomSource) -> WeightReader:
    return WeightReader(weights.nbytes, lambda *_: None)


def _execution(device: torch.device) -> Execution:
    return Execution(
        device="cuda" if device.type == "cuda" else "cpu",
        device_index=0,
        precision="bf16",
        scaling=None,
        compute="bf16",
        total_blocks=0,
        resident_blocks=0,
        ring_slots=0,
        text_encoder="resident",
        encode_tile_px=None,
        decode_tile_px=None,
        pin=False,
        allocator_bytes=0,
        max_reference_pixels=0,
    )

"""The VAE of the small model: its configuration, first weights, and its passes over single pictures as a 2-D net.

A single frame has only zeros before it, so of each causal 3-D kernel nothing but the last time slice takes part. The
passes compute what diffusers' class does with the same weights, and gradients flow into the class's own parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import isqrt, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage
from torch import Tensor, nn

VAE_CONFIG: dict[str, Any] = {
    "base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
    "input_channels": 3,
}
CHANNELS: int = VAE_CONFIG["z_dim"]
CELL = 8
"""Pixels along each side of a latent cell."""
PATCH = 2
"""Latent cells along each side of a token."""
FIRST_LOG_VARIANCE = -6.0
"""Of the posterior of untrained weights: deviations of 0.05, so that decoding starts from nearly exact latents."""
LOG_VARIANCE_LIMITS = (-30.0, 20.0)
"""Those of diffusers' posterior."""
_LEAST_NORM = 1e-12
"""Of a pixel's channels; diffusers' normalisation divides by no less."""
_RECOMPILE_LIMIT = 64
"""Shapes of rows that one process may meet: stages, batch sizes, with and without gradients."""

NormSilu = Callable[[Tensor, Tensor], Tensor]


def make_vae(seed: int) -> AutoencoderKLQwenImage:
    """Return an untrained VAE in FP32 on the CPU, the same for a seed; torch's random state stays as it is.

    All residual branches add nothing at first, the posterior is narrow, and what single frames never reach is zero.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLQwenImage(**VAE_CONFIG)
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, nn.Conv3d):
                _restrict_to_last_slice(module)
        for name, param in vae.named_parameters():
            if "time_conv." in name or name.endswith(("conv2.weight", "conv2.bias", "proj.weight", "proj.bias")):
                param.zero_()
        vae.quant_conv.weight[CHANNELS:] *= 0.1
        vae.quant_conv.bias[CHANNELS:] = FIRST_LOG_VARIANCE
    return vae


def _restrict_to_last_slice(convolution: nn.Conv3d) -> None:
    """Give the last time slice the variance of all of them."""
    slices = convolution.weight.shape[2]
    convolution.weight[:, :, -1] *= sqrt(slices)
    convolution.weight[:, :, :-1] = 0


class PictureCodec:
    """Encodes and decodes batches of single pictures with the weights of ``vae``, channels last, in ``dtype``.

    Both passes keep to what a CUDA graph can record. ``compiled`` has torch.compile fuse the norms with their
    activations, once for each number of rows and of channels. Without it they take more passes over memory, though none
    in FP32, and backward is slow.
    """

    def __init__(self, vae: AutoencoderKLQwenImage, dtype: torch.dtype, compiled: bool = False) -> None:
        self._vae, self._dtype = vae, dtype
        self._norm_silu = _compiled_norm_silu() if compiled else norm_silu

    def moments(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of latents, FP32 [N, 16, H / 8, W / 8], of pictures [N, 3, H, W] in -1..1."""
        encoder = self._vae.encoder
        hidden = self._convolve(encoder.conv_in, self._entered(pictures))
        for block in encoder.down_blocks:
            hidden = self._resample(block, hidden) if hasattr(block, "resample") else self._residual(block, hidden)
        hidden = self._activated(encoder.norm_out, self._middle(encoder.mid_block, hidden))
        both = self._convolve(self._vae.quant_conv, self._convolve(encoder.conv_out, hidden))
        mean, log_variance = both.float().chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE_LIMITS)

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures FP32 [N, 3, H, W], about -1..1, of latents [N, 16, H / 8, W / 8] that are not normalised."""
        decoder = self._vae.decoder
        hidden = self._convolve(self._vae.post_quant_conv, self._entered(latents))
        hidden = self._middle(decoder.mid_block, self._convolve(decoder.conv_in, hidden))
        for block in decoder.up_blocks:
            for residual in block.resnets:
                hidden = self._residual(residual, hidden)
            for resample in block.upsamplers or ():
                hidden = self._resample(resample, hidden)
        return self._convolve(decoder.conv_out, self._activated(decoder.norm_out, hidden)).float()

    def _entered(self, values: Tensor) -> Tensor:
        return values.to(self._dtype, memory_format=torch.channels_last)

    def _convolve(self, layer: Any, hidden: Tensor) -> Tensor:
        """A 2-D convolution, or the last time slice of a causal 3-D one."""
        weight, padding = layer.weight, layer.padding
        if weight.ndim == 5:
            left, _, top, *_ = layer._padding
            weight, padding = weight[:, :, -1], (top, left)
        weight = weight.to(self._dtype, memory_format=torch.channels_last)
        return F.conv2d(hidden, weight, layer.bias.to(self._dtype), layer.stride[-2:], padding)

    def _activated(self, norm: Any, hidden: Tensor) -> Tensor:
        """SiLU of the RMS norm over the channels."""
        # Channels last: the rows are a view.
        rows = hidden.permute(0, 2, 3, 1)
        return (
            self._norm_silu(rows.reshape(-1, rows.shape[-1]), norm.gamma.flatten()).view(rows.shape).permute(0, 3, 1, 2)
        )

    def _residual(self, block: Any, hidden: Tensor) -> Tensor:
        passed = hidden if isinstance(block.conv_shortcut, nn.Identity) else self._convolve(block.conv_shortcut, hidden)
        hidden = self._convolve(block.conv1, self._activated(block.norm1, hidden))
        return passed + self._convolve(block.conv2, self._activated(block.norm2, hidden))

    def _middle(self, block: Any, hidden: Tensor) -> Tensor:
        (attention,) = block.attentions
        before, after = block.resnets
        return self._residual(after, self._attended(attention, self._residual(before, hidden)))

    def _attended(self, layer: Any, hidden: Tensor) -> Tensor:
        """Attention of one head over all cells, added to its input."""
        count, channels, height, width = hidden.shape
        rows = hidden.permute(0, 2, 3, 1).reshape(-1, channels)
        normed = _normalised(rows, layer.norm.gamma.flatten()).view(count, height * width, channels)
        merged = F.linear(normed, layer.to_qkv.weight.flatten(1).to(self._dtype), layer.to_qkv.bias.to(self._dtype))
        query, key, value = merged.unsqueeze(1).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        out = F.linear(mixed, layer.proj.weight.flatten(1).to(self._dtype), layer.proj.bias.to(self._dtype))
        return hidden + out.view(count, height, width, channels).permute(0, 3, 1, 2)

    def _resample(self, block: Any, hidden: Tensor) -> Tensor:
        first, convolution = block.resample
        if isinstance(first, nn.ZeroPad2d):
            return self._convolve(convolution, F.pad(hidden, (0, 1, 0, 1)))
        return self._convolve(convolution, F.interpolate(hidden, scale_factor=2.0, mode="nearest-exact"))


def norm_silu(rows: Tensor, gamma: Tensor) -> Tensor:
    """SiLU of ``rows`` [R, C], each scaled to a root mean square of 1 and by gamma [C], in the dtype of the rows."""
    return F.silu(_normalised(rows, gamma))


def _normalised(rows: Tensor, gamma: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float32).clamp(min=_LEAST_NORM)
    scale = (sqrt(rows.shape[1]) / norm).to(rows.dtype)
    normalised: Tensor = rows * scale * gamma.to(rows.dtype)
    return normalised


def fusible_norm_silu(rows: Tensor, gamma: Tensor) -> Tensor:
    """``norm_silu`` with FP32 between input and output, which costs nothing where it all stays in registers."""
    wide = rows.float()
    least = _LEAST_NORM**2 / rows.shape[1]
    scale = torch.rsqrt(wide.square().mean(1, keepdim=True).clamp(min=least))
    return F.silu(wide * scale * gamma).to(rows.dtype)


@cache
def _compiled_norm_silu() -> NormSilu:
    # Past the limit dynamo would fall back to eager code without an error.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILE_LIMIT)
    compiled: NormSilu = torch.compile(fusible_norm_silu, dynamic=False)
    return compiled


class LatentStatistics:
    """Mean and standard deviation of each latent channel: diffusers' ``latents_mean`` and ``latents_std``."""

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        self.mean, self.std = (torch.as_tensor(values, dtype=torch.float32) for values in (mean, std))

    def to(self, device: torch.device | str) -> LatentStatistics:
        """The same on another device."""
        return LatentStatistics(self.mean.to(device), self.std.to(device))

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents [N, 16, h, w] of an encoder as a denoiser meets them: mean 0, deviation 1 in each channel."""
        return (latents - _column(self.mean)) / _column(self.std)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        return latents * _column(self.std) + _column(self.mean)


def _column(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def pack(latents: Tensor) -> Tensor:
    """Latents [N, C, h, w] as tokens [N, h * w / 4, 4 * C] of 2 x 2 cells, the four cells of a channel side by side."""
    count, channels, height, width = latents.shape
    cells = latents.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * PATCH**2)


def unpack(tokens: Tensor, height: int | None = None) -> Tensor:
    """Tokens [N, h * w / 4, 4 * C] back as latents [N, C, h, w] of ``height`` cells, by default of square pictures."""
    count, total, values = tokens.shape
    rows = isqrt(total) if height is None else height // PATCH
    cells = tokens.reshape(count, rows, total // rows, values // PATCH**2, PATCH, PATCH)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, rows * PATCH, total // rows * PATCH)

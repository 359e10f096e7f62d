"""The VAE as a network of single pictures: each causal 3-D convolution becomes the 2-D one that a first frame meets."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import Tensor, nn
from torch.nn import functional


class FrameConv(nn.Module):
    """A causal 3-D convolution restricted to one frame.

    A first frame has only zeros before it, so that of the kernel's time slices none but the last adds anything: the
    result is the same, without two thirds of the arithmetic and of the weights.
    """

    def __init__(self, causal: Any) -> None:
        super().__init__()
        last_slice = causal.weight[:, :, -1].contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(last_slice, requires_grad=False)
        self.bias = nn.Parameter(causal.bias, requires_grad=False)
        self._stride = tuple(causal.stride[1:])
        left, right, top, bottom, *_ = causal._padding
        assert left == right and top == bottom
        self._padding = (top, left)

    def forward(self, frame: Tensor, cache_x: Tensor | None = None) -> Tensor:
        """Convolve one frame [1, C, 1, H, W]; frames before it do not exist."""
        assert frame.shape[2] == 1 and cache_x is None
        result = functional.conv2d(frame[:, :, 0], self.weight, self.bias, self._stride, self._padding)
        return result.unsqueeze(2)


def restrict_to_single_frames(module: nn.Module) -> None:
    """Replace every causal convolution below ``module`` in place; temporal resampling is dropped, as it never runs."""
    for name, child in module.named_children():
        if name == "time_conv":
            setattr(module, name, nn.Identity())
        elif isinstance(child, QwenImageCausalConv3d):
            setattr(module, name, FrameConv(child))
        else:
            restrict_to_single_frames(child)

"""Picture metrics in torch: PSNR, of a region or of all, and SSIM."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

PSNR_CAP_DB = 100.0
"""PSNR of equal pictures: infinity would spoil every mean."""
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def psnr(first: Tensor, second: Tensor, region: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio [N] in dB of pictures [N, 3, H, W] in 0..1, at most ``PSNR_CAP_DB``.

    ``region`` [N, H, W] (bool) restricts it; an empty region gives NaN.
    """
    error = (first - second).square().mean(1)
    inside = torch.ones_like(error) if region is None else region.to(error.dtype)
    mean = (error * inside).sum((1, 2)) / inside.sum((1, 2))
    return -10 * torch.log10(mean.clamp(min=10 ** (-PSNR_CAP_DB / 10)))


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity [N] of pictures [N, 3, H, W] in 0..1, over the three channels.

    Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity",
    equation 13, with its constants (0.01, 0.03) and its Gaussian window (11 pixels, sigma 1.5), at all places where the
    window lies inside the picture: (2 m1 m2 + C1)(2 cov + C2) / ((m1^2 + m2^2 + C1)(v1 + v2 + C2)).
    """
    mean1, mean2 = _blur(first), _blur(second)
    variance1 = _blur(first * first) - mean1 * mean1
    variance2 = _blur(second * second) - mean2 * mean2
    covariance = _blur(first * second) - mean1 * mean2
    luminance = (2 * mean1 * mean2 + SSIM_C1) / (mean1 * mean1 + mean2 * mean2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance1 + variance2 + SSIM_C2)
    return (luminance * structure).mean((1, 2, 3))


def _blur(picture: Tensor) -> Tensor:
    """Gaussian-weighted local means, one axis after the other.

    Sums of shifted pictures: a convolution of single channels takes five times as long on a CPU.
    """
    steps = [index - SSIM_WINDOW // 2 for index in range(SSIM_WINDOW)]
    weights = [exp(-(step**2) / (2 * SSIM_SIGMA**2)) for step in steps]
    for axis in (2, 3):
        length = picture.shape[axis] - SSIM_WINDOW + 1
        mean = picture.narrow(axis, 0, length) * (weights[0] / sum(weights))
        for start, weight in enumerate(weights[1:], start=1):
            mean.add_(picture.narrow(axis, start, length), alpha=weight / sum(weights))
        picture = mean
    return picture

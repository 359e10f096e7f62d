from __future__ import annotations

import pytest
import torch

from tools.tiny_model.metrics import PSNR_CAP_DB, psnr, ssim

GREY = torch.full((1, 3, 32, 32), 0.5)


def test_equal_pictures_have_the_best_values() -> None:
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert psnr(picture, picture).tolist() == [PSNR_CAP_DB] * 2
    assert ssim(picture, picture).tolist() == pytest.approx([1.0] * 2, abs=1e-5)


def test_psnr_of_a_known_error() -> None:
    assert float(psnr(GREY, GREY + 0.1)) == pytest.approx(20.0, abs=1e-3)


def test_psnr_looks_only_at_the_region() -> None:
    other = GREY.clone()
    other[..., :16] += 0.1
    left = torch.zeros(1, 32, 32, dtype=torch.bool)
    left[..., :16] = True
    assert float(psnr(GREY, other, left)) == pytest.approx(20.0, abs=1e-3)
    assert float(psnr(GREY, other, ~left)) == PSNR_CAP_DB
    assert bool(psnr(GREY, other, left & ~left).isnan())


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    expected = (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4)
    assert float(ssim(GREY, GREY + 0.1)) == pytest.approx(expected, abs=1e-3)


def test_ssim_at_one_place_is_the_formula_with_gaussian_weights() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.rand(1, 3, 11, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    steps = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(steps**2) / (2 * 1.5**2))
    weights = line[:, None] * line / line.sum() ** 2
    values = []
    for x, y in zip(first[0], second[0], strict=True):
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        covariance = (weights * (x - mx) * (y - my)).sum()
        upper = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4)
        values.append(float(upper / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))))
    assert float(ssim(first, second)) == pytest.approx(sum(values) / 3, abs=1e-6)


def test_ssim_falls_with_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    picture, noise = torch.rand(1, 3, 32, 32, generator=generator), torch.randn(1, 3, 32, 32, generator=generator)
    values = [float(ssim(picture, picture + scale * noise)) for scale in (0.0, 0.05, 0.2)]
    assert values[0] > values[1] > values[2]

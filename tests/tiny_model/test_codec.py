from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import QwenImageEditPlusPipeline
from torch import Tensor
from torch.nn import functional

from tools.tiny_model.codec import (
    FIRST_LOG_VARIANCE,
    VAE_CONFIG,
    LatentStatistics,
    NormSilu,
    PictureCodec,
    fusible_norm_silu,
    make_vae,
    norm_silu,
    pack,
    unpack,
)

BUILTIN = Path(__file__).resolve().parents[2] / "qied" / "builtin" / "model" / "vae" / "config.json"

both = pytest.mark.parametrize("form", [norm_silu, fusible_norm_silu])


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLQwenImage:
    """A VAE in which every weight that single frames reach has a say, the older time slices too if they could."""
    vae = make_vae(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in vae.parameters():
            param.add_(torch.randn(param.shape, generator=generator), alpha=0.02)
    return vae


def pictures(width: int, height: int, count: int = 2) -> Tensor:
    return 2 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(2)) - 1


def test_the_configuration_is_that_of_the_built_in_model() -> None:
    shipped = json.loads(BUILTIN.read_text())
    assert {key: shipped[key] for key in VAE_CONFIG} == VAE_CONFIG


@pytest.mark.parametrize(("width", "height"), [(64, 64), (256, 192)])
def test_it_encodes_and_decodes_as_the_library_does(vae: AutoencoderKLQwenImage, width: int, height: int) -> None:
    codec = PictureCodec(vae, torch.float32)
    given = pictures(width, height)
    with torch.no_grad():
        mean, log_variance = codec.moments(given)
        posterior = vae.encode(given.unsqueeze(2)).latent_dist
        torch.testing.assert_close(mean, posterior.mean[:, :, 0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(log_variance, posterior.logvar[:, :, 0], rtol=1e-4, atol=1e-4)
        assert mean.shape == (2, 16, height // 8, width // 8)
        # The library clamps what it decodes.
        expected = vae.decode(mean.unsqueeze(2)).sample[:, :, 0]
        torch.testing.assert_close(codec.decode(mean).clamp(-1, 1), expected, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_library(vae: AutoencoderKLQwenImage) -> None:
    codec = PictureCodec(vae, torch.float32)
    given = pictures(32, 32)

    def gradients(output: Tensor) -> dict[str, Tensor]:
        vae.zero_grad()
        output.square().mean().backward()  # type: ignore[no-untyped-call]
        return {name: param.grad.clone() for name, param in vae.named_parameters() if param.grad is not None}

    ours = gradients(codec.decode(codec.moments(given)[0]))
    # Unclamped, as the clamp would stop gradients.
    latents = vae.quant_conv(vae.encoder(given.unsqueeze(2)))[:, :16]
    theirs = gradients(vae.decoder(vae.post_quant_conv(latents)))
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
        assert gradient.ndim != 5 or not bool(gradient[:, :, :-1].any()), name


def test_bf16_is_close_and_comes_out_as_fp32(vae: AutoencoderKLQwenImage) -> None:
    given = pictures(64, 64)
    with torch.no_grad():
        exact, rough = (PictureCodec(vae, dtype).moments(given)[0] for dtype in (torch.float32, torch.bfloat16))
        assert rough.dtype == torch.float32
        assert float((rough - exact).norm() / exact.norm()) < 0.03
        assert PictureCodec(vae, torch.bfloat16).decode(exact).dtype == torch.float32


@both
def test_a_pixel_of_zeros_stays_zero_and_passes_no_gradient_that_is_not_a_number(form: NormSilu) -> None:
    rows = torch.zeros(3, 16, requires_grad=True)
    gamma = torch.ones(16, requires_grad=True)
    result = form(rows, gamma)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert not bool(result.any())
    assert rows.grad is not None and bool(rows.grad.isfinite().all())


def test_first_weights_are_the_same_for_a_seed_and_leave_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = make_vae(3).state_dict(), make_vae(3).state_dict(), make_vae(4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.conv_in.weight"], other["encoder.conv_in.weight"])


def test_first_weights_are_made_for_single_frames() -> None:
    vae = make_vae(0)
    kernels = {name: param for name, param in vae.named_parameters() if param.ndim == 5}
    assert all(not bool(kernel[:, :, :-1].any()) for kernel in kernels.values())
    assert not any(bool(param.any()) for name, param in vae.named_parameters() if "time_conv" in name)
    # Uniform with the variance 1 / (3 fan_in) over three slices, all of it in the last.
    kernel = kernels["decoder.mid_block.resnets.0.conv1.weight"][:, :, -1].detach()
    assert float(kernel.var() * kernel[0].numel()) == pytest.approx(1 / 3, rel=0.05)


def test_at_first_residual_branches_add_nothing_and_the_posterior_is_narrow() -> None:
    vae = make_vae(0)
    hidden = torch.randn(1, 64, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(vae.decoder.mid_block(hidden), hidden)
        _, log_variance = PictureCodec(vae, torch.float32).moments(pictures(32, 32))
    assert float((log_variance - FIRST_LOG_VARIANCE).abs().max()) < 0.5


def test_packing_is_that_of_the_library() -> None:
    latents = torch.randn(2, 16, 6, 10)
    tokens = QwenImageEditPlusPipeline._pack_latents(latents, 2, 16, 6, 10)
    assert torch.equal(pack(latents), tokens)
    assert torch.equal(pack(latents.to(memory_format=torch.channels_last)), tokens)
    unpacked = QwenImageEditPlusPipeline._unpack_latents(tokens, 48, 80, 8)[:, :, 0]
    assert torch.equal(unpack(tokens, 6), unpacked)
    assert torch.equal(unpacked, latents)
    square = torch.randn(1, 16, 8, 8)
    assert torch.equal(unpack(pack(square)), square)


def test_statistics_normalise_each_channel_and_back() -> None:
    statistics = LatentStatistics([1.0, -2.0], [2.0, 4.0]).to("cpu")
    latents = torch.tensor([3.0, -6.0]).view(1, 2, 1, 1)
    normal = statistics.normalise(latents)
    assert normal.flatten().tolist() == [1.0, -1.0]
    assert torch.equal(statistics.denormalise(normal), latents)


@both
def test_rows_are_normed_as_the_library_norms_channels(form: NormSilu) -> None:
    rows, gamma = torch.randn(5, 16), torch.rand(16)
    expected = functional.silu(functional.normalize(rows, dim=1) * 4.0 * gamma)
    torch.testing.assert_close(form(rows, gamma), expected)

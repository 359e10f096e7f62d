"""The training forward of the transformer against diffusers' class."""

from __future__ import annotations

import pytest
import torch

from qied.engine.weights.quantise import dequantise, quantise
from tools.tiny_model.denoiser import Denoiser, layout, make_transformer, rotation, rounded, time_channels

CPU = torch.device("cpu")
TEXT = 24


@pytest.fixture(scope="module")
def transformer():
    """First weights with noise on them, as all gates are closed at first."""
    torch.manual_seed(0)
    model = make_transformer()
    with torch.no_grad():
        for param in model.parameters():
            param.add_(torch.randn_like(param) * 0.05)
    return model


def inputs(pictures: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(pictures)
    latents = torch.randn(2, 1 + pictures, 256, 64, generator=generator)
    text = torch.randn(2, TEXT, 128, generator=generator)
    return latents, text, torch.tensor([TEXT, 13]), torch.tensor([0.7, 0.2])


def ours(transformer, pictures: int, latents, text, lengths, levels) -> torch.Tensor:
    return Denoiser(torch.float32)(
        dict(transformer.named_parameters()),
        latents,
        text,
        time_channels(levels, torch.float32),
        rotation(transformer, pictures, TEXT, CPU),
        layout(lengths, (1 + pictures) * 256, TEXT),
    )


@pytest.mark.parametrize("pictures", [1, 2])
def test_forward_is_that_of_the_library(transformer, pictures):
    latents, text, lengths, levels = inputs(pictures)
    with torch.no_grad():
        reference = transformer(
            hidden_states=latents.flatten(1, 2),
            encoder_hidden_states=text,
            encoder_hidden_states_mask=(torch.arange(TEXT) < lengths[:, None]).long(),
            timestep=levels,
            img_shapes=[[(1, 16, 16)] * (1 + pictures)] * 2,
            return_dict=False,
        )[0][:, :256]
        output = ours(transformer, pictures, latents, text, lengths, levels)
    torch.testing.assert_close(output, reference, rtol=1e-4, atol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(transformer):
    latents, text, lengths, levels = inputs(1)
    other = text.clone()
    other[1, 13:] = 100.0
    with torch.no_grad():
        first, second = (ours(transformer, 1, latents, states, lengths, levels) for states in (text, other))
    torch.testing.assert_close(first, second)


def test_untrained_transformer_moves_nothing():
    latents, text, lengths, levels = inputs(1)
    with torch.no_grad():
        assert ours(make_transformer(), 1, latents, text, lengths, levels).abs().max() == 0


def test_gradients_reach_every_weight_that_the_target_depends_on(transformer):
    latents, text, lengths, levels = inputs(1)
    transformer.zero_grad()
    ours(transformer, 1, latents, text, lengths, levels).square().sum().backward()
    untouched = {name for name, param in transformer.named_parameters() if param.grad is None or not param.grad.any()}
    # Nothing reads the text's own queries of the last attention, and what follows from them.
    ends = tuple(
        f"transformer_blocks.5.{part}"
        for part in ("attn.add_q_proj", "attn.norm_added_q", "attn.to_add_out", "txt_mlp")
    )
    assert untouched
    assert all(name.startswith(ends) for name in untouched), untouched
    transformer.zero_grad()


def test_time_channels_keep_the_rounding_of_a_bf16_pipeline():
    levels = torch.tensor([0.7137])
    exact, rounded = (time_channels(levels, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert exact.shape == (1, 256)
    assert (exact - rounded).abs().max() > 0.5


def test_rounding_is_that_of_the_engines_row_wise_fp8():
    x = (
        torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
        * torch.tensor([1e-3, 1.0, 7.0, 300.0, 0.0])[:, None]
    )
    cast = quantise(x, "rowwise")
    expected = dequantise(cast.values, cast.scale.flatten(), torch.float32)
    torch.testing.assert_close(rounded(x, torch.ones(())), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(rounded(x, torch.zeros(())), x)


def test_rounding_passes_gradients_unchanged():
    x = torch.randn(3, 16, requires_grad=True)
    rounded(x, torch.ones(())).sum().backward()
    assert x.grad is not None and (x.grad == 1).all()


def test_rounded_linears_change_the_velocity_a_little(transformer):
    latents, text, lengths, levels = inputs(1)
    weights = dict(transformer.named_parameters())
    with torch.no_grad():
        exact, off, on = (
            Denoiser(torch.float32)(
                weights,
                latents,
                text,
                time_channels(levels, torch.float32),
                rotation(transformer, 1, TEXT, CPU),
                layout(lengths, 512, TEXT),
                rounding,
            )
            for rounding in (None, torch.zeros(()), torch.ones(()))
        )
    torch.testing.assert_close(off, exact)
    assert 0.001 < (on - exact).norm() / exact.norm() < 0.2

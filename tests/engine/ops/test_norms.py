import pytest
import torch
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen
from torch.nn import functional

from qied.engine.ops.norms import modulated_norm, rotated_norm
from qied.engine.weights import quantise

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture
def heads() -> torch.Tensor:
    return torch.randn(9, 4, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rotation() -> torch.Tensor:
    return torch.polar(torch.ones(9, 16), torch.randn(9, 16, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_modulated_norm_is_shifted_and_scaled_per_channel(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, shift, scale = (torch.randn(size, generator=generator).to(dtype) for size in ((5, 48), (48,), (48,)))
    expected = functional.layer_norm(x, (48,), eps=1e-6) * (1 + scale) + shift
    assert torch.equal(modulated_norm(x, shift, scale), expected)


def test_of_fp32_a_modulated_norm_rounds_nothing_to_the_type_of_the_modulation() -> None:
    generator = torch.Generator().manual_seed(0)
    x, shift, scale = (torch.randn(size, generator=generator) for size in ((5, 48), (48,), (48,)))
    expected = functional.layer_norm(x, (48,), eps=1e-6) * (1 + scale.bfloat16().float()) + shift.bfloat16().float()
    assert torch.equal(modulated_norm(x, shift.bfloat16(), scale.bfloat16()), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_are_normalised_and_rotated_as_diffusers_does_it(
    heads: torch.Tensor, rotation: torch.Tensor, dtype: torch.dtype
) -> None:
    heads = heads.to(dtype)
    norm = RMSNorm(32, eps=1e-6).to(dtype)
    norm.weight.data = torch.linspace(0.5, 2, 32).to(dtype)
    expected = apply_rotary_emb_qwen(norm(heads)[None], rotation, use_real=False)[0]
    rotated_norm(heads, norm.weight.data, torch.view_as_real(rotation).flatten(1), dtype)
    torch.testing.assert_close(heads, expected.detach(), rtol=0 if dtype is torch.bfloat16 else 1e-6, atol=0)


def test_queries_inside_a_wider_tensor_are_rotated_in_place_and_nothing_beside_them(
    heads: torch.Tensor, rotation: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, turns = torch.ones(32), torch.view_as_real(rotation).flatten(1)
    expected = heads.clone()
    rotated_norm(expected, weight, turns, torch.float32)
    wide = torch.stack([heads, heads + 1, heads + 2], dim=1)
    monkeypatch.setattr(quantise, "_CHUNK_ELEMENTS", 300)
    rotated_norm(wide[:, 0], weight, turns, torch.float32)
    assert torch.equal(wide[:, 0], expected)
    assert torch.equal(wide[:, 1], heads + 1) and torch.equal(wide[:, 2], heads + 2)

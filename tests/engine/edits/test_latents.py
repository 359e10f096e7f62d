import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.engine.edits.denoise import initial_noise, pack, unpack

sides = st.integers(1, 12).map(lambda half: 2 * half)


@settings(deadline=None)
@given(sides, sides)
def test_unpacking_undoes_packing(rows: int, columns: int) -> None:
    latents = torch.randn(1, 16, rows, columns)
    assert torch.equal(unpack(pack(latents), rows, columns), latents)


@settings(deadline=None)
@given(sides, sides)
def test_tokens_are_laid_out_as_in_the_pipeline(rows: int, columns: int) -> None:
    latents = torch.randn(1, 16, rows, columns)
    expected = QwenImageEditPlusPipeline._pack_latents(latents, 1, 16, rows, columns)
    assert torch.equal(pack(latents), expected)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_a_seed_draws_the_noise_that_the_pipeline_draws(seed: int) -> None:
    generator = torch.Generator("cpu").manual_seed(seed)
    expected = randn_tensor((1, 1, 16, 32, 24), generator=generator, device=torch.device("cpu"), dtype=torch.float32)
    assert torch.equal(initial_noise(seed, 16, 32, 24), expected[:, 0])


def test_all_bits_of_a_seed_count() -> None:
    seeds = [5, *(5 + 2**bit for bit in range(32, 63)), 2**63 - 1]
    drawn = torch.stack([initial_noise(seed, 16, 32, 24).flatten() for seed in seeds])
    related = torch.corrcoef(drawn) - torch.eye(len(seeds))
    assert related.abs().max() < 0.05
    assert drawn.mean(1).abs().max() < 0.05 and (drawn.std(1) - 1).abs().max() < 0.05


def test_a_large_seed_gives_the_same_noise_in_every_version() -> None:
    found = initial_noise(2**62 + 5, 16, 8, 8).flatten()[[0, 1, 500, -1]]
    torch.testing.assert_close(found, torch.tensor([-0.068014, 1.22348, 0.929091, 0.181811]), rtol=0, atol=1e-5)


def test_drawing_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    initial_noise(1, 16, 8, 8)
    assert torch.equal(torch.get_rng_state(), before)

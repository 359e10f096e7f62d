import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.engine.latents import initial_noise, pack, unpack

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


def test_a_seed_draws_the_noise_that_the_pipeline_draws() -> None:
    generator = torch.Generator("cpu").manual_seed(2**62 + 5)
    expected = randn_tensor((1, 1, 16, 32, 24), generator=generator, device=torch.device("cpu"), dtype=torch.float32)
    assert torch.equal(initial_noise(2**62 + 5, 16, 32, 24), expected[:, 0])


def test_drawing_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    initial_noise(1, 16, 8, 8)
    assert torch.equal(torch.get_rng_state(), before)

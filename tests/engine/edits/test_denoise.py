import torch

from qied.engine.edits.denoise import clean_estimate, euler_step, guide


def test_guidance_keeps_each_tokens_length() -> None:
    positive, negative = torch.randn(2, 1, 7, 64, generator=torch.Generator().manual_seed(0))
    guided = guide(positive, negative, 4.0)
    torch.testing.assert_close(guided.norm(dim=-1), positive.norm(dim=-1))
    direction = torch.nn.functional.cosine_similarity(guided, negative + 4 * (positive - negative), dim=-1)
    torch.testing.assert_close(direction, torch.ones(1, 7))


def test_guidance_of_one_is_the_positive_prediction() -> None:
    positive, negative = torch.randn(2, 1, 7, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(guide(positive, negative, 1.0), positive)


def test_a_straight_path_is_recovered_from_any_noise_level() -> None:
    clean, noise = torch.randn(2, 1, 4, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor(0.3)
    latents, velocity = (1 - sigma) * clean + sigma * noise, noise - clean
    torch.testing.assert_close(clean_estimate(latents, velocity, sigma), clean)
    torch.testing.assert_close(euler_step(latents, velocity, sigma, torch.tensor(0.0)), clean)

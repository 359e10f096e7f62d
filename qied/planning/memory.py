"""Bytes that one edit takes, as a sum of parts.

Peaks are per-pixel and per-token factors times sizes; the VAE's factors are those of AutoencoderKLQwenImage at 1024 x
1024 in BF16 on one H200 (encode 2.8 GB, decode 4.4 GB, base 96), rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass

from qied.edit import EditSpec
from qied.planning.model_profile import ModelProfile

_FP32 = 4
_VAE_DECODE_FACTOR = 24
_VAE_ENCODE_FACTOR = 15
_TOKEN_PIXELS = 16 * 16
_TEXT_TOKENS_WITHOUT_IMAGES = 128
_VISION_TOKEN_PIXELS = 28 * 28
_LIVE_WIDTHS = 16
"""Tensors of [tokens, inner] that live at once in a block: residuals, Q, K, V, attention, modulation, casts."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one edit: ``state`` for as long as it is held, ``arena`` at the peak of its largest phase."""

    state: int
    arena: int


def tokens(spec: EditSpec, profile: ModelProfile) -> tuple[int, int, int]:
    """Target, reference and text tokens of an edit."""
    target = spec.width * spec.height // _TOKEN_PIXELS
    geometry = profile.geometry
    references = len(spec.images) * geometry.vae_pixels * 5 // (4 * _TOKEN_PIXELS)
    text = _TEXT_TOKENS_WITHOUT_IMAGES + len(spec.images) * geometry.vision_pixels * 5 // (4 * _VISION_TOKEN_PIXELS)
    return target, references, min(text + len(spec.prompt.encode()) // 2, text + profile.max_prompt_tokens)


def footprint(spec: EditSpec, profile: ModelProfile, element_bytes: int) -> Footprint:
    """State and arena of an edit in a precision of ``element_bytes`` bytes (2 for BF16, 4 for FP32)."""
    facts = profile.architecture
    target, references, text = tokens(spec, profile)
    prompts = 2 if spec.guided else 1
    latents = target * facts.latent_channels * 4 * _FP32 * (3 if spec.mask else 2)
    state = latents + references * facts.latent_channels * 4 * _FP32 + prompts * text * facts.joint_dim * element_bytes
    sequence = target + references + text
    denoise = sequence * (facts.inner_dim * _LIVE_WIDTHS + 2 * facts.mlp_dim) * element_bytes
    decode = spec.width * spec.height * facts.vae_base_dim * element_bytes * _VAE_DECODE_FACTOR
    encode = profile.geometry.vae_pixels * 5 // 4 * facts.vae_base_dim * element_bytes * _VAE_ENCODE_FACTOR
    return Footprint(state, max(denoise, decode, encode))

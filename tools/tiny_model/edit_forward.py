"""Text encoder and transformer together: from tokens, condition patches and latents to the velocity of the target."""

from __future__ import annotations

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from tools.tiny_model.denoiser import PICTURE_TOKENS, Denoiser, Rotation, Weights, layout, rotation
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.text_encoder import TextEncoderForward


class EditForward:
    """Forwards for edits of one and of two pictures; BF16 on a GPU, FP32 elsewhere."""

    def __init__(
        self,
        encoder: Qwen2_5_VLForConditionalGeneration,
        transformer: QwenImageTransformer2DModel,
        prompts: Prompts,
        device: torch.device,
        *,
        compiled: bool,
    ) -> None:
        self.device = device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._encoders = {count: TextEncoderForward(encoder, prompts, count, device) for count in (1, 2)}
        self._text_tokens = {count: prompts.text_tokens(count) for count in (1, 2)}
        self._rotations = {count: rotation(transformer, count, self._text_tokens[count], device) for count in (1, 2)}
        self._denoiser = Denoiser(self.dtype, compiled=compiled)

    def hidden(self, ids: Tensor, patches: Tensor, mrope: Tensor) -> Tensor:
        """Hidden states [B, T, 128] after the template; patches [B, pictures, 64, 1176], mrope bool [B]."""
        encoder = self._encoders[patches.shape[1]]
        # Weights are used in one product each: keeping their casts would only break a recording.
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False):
            return encoder(ids, patches, mrope)

    def velocity(
        self,
        weights: Weights,
        noisy: Tensor,
        references: Tensor,
        hidden: Tensor,
        lengths: Tensor,
        time: Tensor,
        rounding: Tensor | None = None,
    ) -> Tensor:
        """Velocity FP32 [B, 256, 64]; noisy [B, 256, 64], references [B, pictures, 256, 64], time [B, 256].

        ``rounding`` as in ``Denoiser``.
        """
        count = references.shape[1]
        pictures = torch.cat([noisy[:, None].to(self.dtype), references.to(self.dtype)], 1)
        turns: Rotation = self._rotations[count]
        joint = layout(lengths, (1 + count) * PICTURE_TOKENS, self._text_tokens[count])
        return self._denoiser(weights, pictures, hidden, time, turns, joint, rounding)

"""The end of the joint training: small steps with weights and activations rounded to FP8.

A checkpoint that is run in FP8 as well as in 16 bits should not lie where rounding hurts most. Rounding is that of
row-wise FP8 (E4M3, a scale for each output channel and each token); gradients pass it unchanged. Every step rounds:
what is good with rounding is so without it, and not the other way round.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from tools.tiny_model.budgets import Budget, EditBudget
from tools.tiny_model.edit_stage import EditStage
from tools.tiny_model.edits import held_out_set
from tools.tiny_model.export import save_text_encoder, save_transformer
from tools.tiny_model.metrics import psnr
from tools.tiny_model.render import render_scenes
from tools.tiny_model.sampling import noise_levels


class SettleStage(EditStage):
    """Goes on from the transformer and the text encoder in ``folder``, and writes new ones in their place."""

    name = "settle"

    def _own_budget(self, budget: Budget) -> EditBudget:
        return budget.settle

    def _first_weights(self, folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, QwenImageTransformer2DModel]:
        before = folder / "edit"
        encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(before / "text_encoder", dtype=torch.float32)
        transformer = QwenImageTransformer2DModel.from_pretrained(before / "transformer", torch_dtype=torch.float32)
        return encoder, transformer

    def _write(self, folder: Path) -> None:
        save_transformer(self._transformer, folder / "transformer")
        save_text_encoder(self._encoder, folder / "text_encoder")

    def validate(self) -> dict[str, float]:
        """As of the stage before, and the mean PSNR (dB) to the truth, exact and with every linear rounded to FP8."""
        known = held_out_set(per_group=max(1, self._budget.evaluated // 16))
        edits = [edit for edit in known if not edit.held_out_phrase][: self._budget.evaluated]
        truth = render_scenes([edit.target for edit in edits], self._device)
        found: dict[str, float] = {}
        with self._updates.ema.applied():
            for name, rounding in (("dB", None), ("dB in FP8", torch.ones((), device=self._device))):
                levels = noise_levels(self._budget.evaluated_steps)
                outputs = self._sampler.run(self._weights, edits, levels, rounding=rounding)
                found[name] = psnr(outputs, truth).mean().item()
        return {**super().validate(), **found}

    def _rounding(self) -> Tensor | None:
        return torch.ones((), device=self._device)

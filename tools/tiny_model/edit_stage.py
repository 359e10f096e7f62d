"""Joint training of transformer and text encoder: flow matching on the target's tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from tools.tiny_model.budgets import Budget, EditBudget, FeedBudget
from tools.tiny_model.denoiser import make_transformer
from tools.tiny_model.edit_forward import EditForward
from tools.tiny_model.edits import Edit, held_out_set
from tools.tiny_model.export import save_text_encoder, save_transformer
from tools.tiny_model.fed_stage import FedStage
from tools.tiny_model.feed import FreshEdits
from tools.tiny_model.flow import mixed_time_channels, sample_noise_levels, weighted_error
from tools.tiny_model.graphs import capture
from tools.tiny_model.latents import Latents
from tools.tiny_model.optimisers import learning_rate_factor
from tools.tiny_model.phrasings import REFERENCE_TASKS
from tools.tiny_model.picture_feed import PictureFeed
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.ranks import ALONE, Ranks
from tools.tiny_model.running_mean import RunningMean
from tools.tiny_model.sampling import Sampler, mean_known, noise_levels, success_by_task
from tools.tiny_model.scoring import score
from tools.tiny_model.stage import seed_everything
from tools.tiny_model.text_probe import TextProbe
from tools.tiny_model.weight_updates import WeightUpdates, split_parameters

RANK_SEED = 1000
"""Between the seeds of processes that train together."""


class EditStage(FedStage):
    """The main stage; needs the VAE, the tokenizer and the text stage's weights in ``folder``."""

    name = "edit"

    def __init__(
        self,
        budget: Budget,
        folder: Path,
        device: torch.device,
        workers: int | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        own = self._own_budget(budget)
        self.total, self._budget, self._ranks = own.steps, own, ranks
        seed_everything(budget.seed + 2)
        prompts = Prompts(folder / "tokenizer")
        self._encoder, self._transformer = self._first_weights(folder)
        self._encoder.lm_head.requires_grad_(False)
        self._probe = TextProbe()
        self._probe.load_state_dict(load_file(folder / "text_stage" / "probe.safetensors"))
        for module in (self._encoder, self._probe, self._transformer):
            module.to(device).eval()
        # Each new shape would be compiled anew: what samples for a check is not.
        self._forward, plain = (
            EditForward(self._encoder, self._transformer, prompts, device, compiled=compiled)
            for compiled in (device.type == "cuda", False)
        )
        self._latents = Latents(folder / "vae", plain.dtype, device)
        self._sampler = Sampler(plain, self._latents, prompts)
        self._weights = dict(self._transformer.named_parameters())
        updates = WeightUpdates(*split_parameters(self._transformer, self._encoder, self._probe), own.rates)

        def feed(of: FeedBudget, pictures: int) -> PictureFeed:
            seed = budget.seed + RANK_SEED * ranks.own
            edits = FreshEdits(folder / "tokenizer", seed, ranks.share(of.fresh), pictures, of.prompt_dropout)
            return PictureFeed(edits, self._latents, of.rows, of.workers if workers is None else workers, device)

        feeds = {1: feed(own.feed, 1), 2: feed(own.pair_feed, 2)}
        super().__init__(updates, RunningMean(("kept", "edited", "text", "norm"), device), feeds, device)
        self._backward = {1: self._recorded(1, own.batch), 2: self._recorded(2, own.pair_batch)}
        self._updates.set_factor(0.0)
        self._update = capture(self._updates.step, device)
        self._begin(budget.seed + 3 + RANK_SEED * ranks.own)

    def _own_budget(self, budget: Budget) -> EditBudget:
        return budget.edit

    def _first_weights(self, folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, QwenImageTransformer2DModel]:
        """Text encoder and transformer that this stage begins with, FP32 on the CPU."""
        encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_stage", dtype=torch.float32)
        return encoder, make_transformer()

    def _rounding(self) -> Tensor | None:
        """How far the linears of one step are rounded to FP8; None: not at all."""
        return None

    def _recorded(self, pictures: int, batch: int) -> Callable[[], None]:
        share = self._ranks.share(batch)
        return capture(lambda: self._learn(pictures, share), self._device)

    def _learn(self, pictures: int, batch: int) -> None:
        """Gradients of one batch of the ring."""
        drawn = self._feeds[pictures].ring.draw(batch)
        mrope = torch.rand(batch, device=self._device) < 0.5
        hidden = self._forward.hidden(drawn["ids"], drawn["patches"], mrope)
        told = self._probe.loss(self._probe(hidden.float(), drawn["lengths"]), drawn["labels"])
        levels = sample_noise_levels(batch, self._budget.even_share, self._device)
        target = drawn["target"].float()
        noise = torch.randn_like(target)
        mixed = torch.lerp(target, noise, levels[:, None, None])
        velocity = self._forward.velocity(
            self._weights,
            mixed,
            drawn["references"],
            hidden,
            drawn["lengths"],
            mixed_time_channels(levels),
            self._rounding(),
        )
        error, parts = weighted_error(velocity, noise - target, drawn["changed"], self._budget.edit_weight)
        (error + self._budget.text_weight * told).backward()
        self._means.add((*parts, told, self._updates.norm))

    def advance(self, step: int) -> None:
        """Make one step; see ``Stage``."""
        own = self._budget
        pictures = 2 if step % own.pair_every == own.pair_every - 1 else 1
        if step % own.feed.every == own.feed.every - 1:
            self._feeds[1].take()
        if step % (own.pair_feed.every * own.pair_every) == own.pair_every - 1:
            self._feeds[2].take()
        self._updates.set_factor(learning_rate_factor(step / self.total, decay=own.decay))
        self._backward[pictures]()
        self._ranks.average(self._updates.gradients)
        self._update()

    def validate(self) -> dict[str, float]:
        """Success of a few held-out edits with the averaged weights, in few steps."""
        per_group = max(1, self._budget.evaluated // 32)
        edits = held_out_set(per_group=per_group)[: self._budget.evaluated]
        pairs = held_out_set(tasks=REFERENCE_TASKS, per_group=max(1, per_group // 2))[: self._budget.evaluated]
        with self._updates.ema.applied():
            known = self._checked(tuple(edit for edit in edits if not edit.held_out_phrase))
            others = self._checked(tuple(edit for edit in edits if edit.held_out_phrase))
            with_two = self._checked(pairs)
        return {**known, "new phrases": others["all"], "two pictures": with_two["all"]}

    def _checked(self, edits: tuple[Edit, ...]) -> dict[str, float]:
        outputs = self._sampler.run(self._weights, edits, noise_levels(self._budget.evaluated_steps))
        scores = score(outputs, edits)
        kept = mean_known([one.preserved_psnr for one in scores])
        return {**success_by_task([one.success for one in scores], edits), "kept dB": kept}

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the averaged weights; see ``Stage``."""
        measures = self.validate()
        with self._updates.ema.applied():
            self._write(folder)
        return measures

    def _write(self, folder: Path) -> None:
        """What the stage leaves: here FP32 in ``folder``/edit, which the next stage goes on from."""
        save_transformer(self._transformer, folder / "edit" / "transformer", torch.float32)
        save_text_encoder(self._encoder, folder / "edit" / "text_encoder", torch.float32)

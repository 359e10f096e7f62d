"""Training of the text encoder alone: a probe reads off its states what the instruction does to the picture.

The transformer would have to find the meaning of words through the noise of its own loss, which takes most of a
training; here every sentence says at once what was meant.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.tiny_model.budgets import Budget
from tools.tiny_model.edits import Edit, held_out_set
from tools.tiny_model.export import save_text_encoder
from tools.tiny_model.fed_stage import FedStage
from tools.tiny_model.feed import FreshEdits
from tools.tiny_model.graphs import capture
from tools.tiny_model.optimisers import learning_rate_factor
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS
from tools.tiny_model.picture_feed import PictureFeed
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.render import render_scenes
from tools.tiny_model.running_mean import RunningMean
from tools.tiny_model.stage import seed_everything
from tools.tiny_model.text_encoder import TextEncoderForward, condition_patches, make_text_encoder
from tools.tiny_model.text_probe import TextProbe, labels
from tools.tiny_model.weight_updates import WeightUpdates, split_parameters

PAIR_EVERY = 4


class TextStage(FedStage):
    """Needs the tokenizer in ``folder``; every ``PAIR_EVERY``-th step is one of two-picture edits."""

    name = "text"

    def __init__(self, budget: Budget, folder: Path, device: torch.device, workers: int | None = None) -> None:
        own = budget.text
        self.total, self._budget = own.steps, own
        seed_everything(budget.seed + 1)
        self._prompts = Prompts(folder / "tokenizer")
        self._encoder = make_text_encoder(self._prompts, seed=budget.seed).to(device).eval()
        self._encoder.lm_head.requires_grad_(False)
        self._probe = TextProbe().to(device)
        self._forwards = {
            pictures: TextEncoderForward(self._encoder, self._prompts, pictures, device) for pictures in (1, 2)
        }
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        updates = WeightUpdates(*split_parameters(self._encoder, self._probe), own.rates)
        feed = own.feed
        feeds = {
            pictures: PictureFeed(
                FreshEdits(folder / "tokenizer", budget.seed, feed.fresh, pictures, feed.prompt_dropout),
                None,
                feed.rows // pictures,
                feed.workers // pictures if workers is None else workers,
                device,
            )
            for pictures in (1, 2)
        }
        super().__init__(updates, RunningMean(("loss", "norm"), device), feeds, device)
        self._updates.set_factor(0.0)
        self._steps = {
            1: capture(lambda: self._train(1, own.batch), device),
            2: capture(lambda: self._train(2, max(1, own.batch // 2)), device),
        }
        self._begin(budget.seed + 2)

    def _hidden(self, pictures: int, ids: Tensor, patches: Tensor) -> Tensor:
        mrope = torch.rand(len(ids), device=self._device) < 0.5
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32, cache_enabled=False):
            return self._forwards[pictures](ids, patches, mrope)

    def _train(self, pictures: int, batch: int) -> None:
        drawn = self._feeds[pictures].ring.draw(batch)
        hidden = self._hidden(pictures, drawn["ids"], drawn["patches"])
        loss = self._probe.loss(self._probe(hidden.float(), drawn["lengths"]), drawn["labels"])
        loss.backward()
        self._updates.step()
        self._means.add((loss, self._updates.norm))

    def advance(self, step: int) -> None:
        """Make one step; see ``Stage``."""
        pictures = 2 if step % PAIR_EVERY == PAIR_EVERY - 1 else 1
        if step % self._budget.feed.every == self._budget.feed.every - 1:
            self._feeds[pictures].take()
        self._updates.set_factor(learning_rate_factor(step / self.total, decay=0.5))
        self._steps[pictures]()

    def validate(self) -> dict[str, float]:
        """Share of labels told rightly for held-out edits in known and in new phrasings, and for two pictures."""
        count = self._budget.evaluated
        per_group = max(1, count // (len(TASKS) * 4))
        edits = held_out_set(per_group=per_group)[:count]
        pairs = held_out_set(tasks=REFERENCE_TASKS, per_group=per_group)[:count]
        groups = {
            "known phrases": [edit for edit in edits if not edit.held_out_phrase],
            "new phrases": [edit for edit in edits if edit.held_out_phrase],
            "two pictures": list(pairs),
        }
        with self._updates.ema.applied():
            return {name: self._accuracy(group) for name, group in groups.items() if group}

    @torch.no_grad()
    def _accuracy(self, edits: list[Edit]) -> float:
        pictures = [render_scenes([edit.source for edit in edits], self._device)]
        others = [edit.reference for edit in edits if edit.reference is not None]
        if others:
            pictures.append(render_scenes(others, self._device))
        ids, lengths = self._prompts.batch([edit.instruction for edit in edits], len(pictures))
        patches = torch.stack([condition_patches(picture) for picture in pictures], 1).to(self._dtype)
        hidden = self._hidden(len(pictures), ids.to(self._device), patches)
        logits = self._probe(hidden.float(), lengths.to(self._device))
        wanted = torch.tensor([labels(edit) for edit in edits])
        right = [(one.argmax(-1).cpu() == column)[column >= 0] for one, column in zip(logits, wanted.T, strict=True)]
        return torch.cat(right).float().mean().item()

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the averaged encoder and probe (FP32) to ``folder``/text_stage; see ``Stage``."""
        measures = self.validate()
        with self._updates.ema.applied():
            save_text_encoder(self._encoder, folder / "text_stage", torch.float32)
            probe = {name: value.cpu().contiguous() for name, value in self._probe.state_dict().items()}
            save_file(probe, folder / "text_stage" / "probe.safetensors")
        return measures

"""Training of the two LoRAs on the finished weights: one for few steps, one for a look that the base does not have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from tools.tiny_model.budgets import Budget, LoraBudget
from tools.tiny_model.denoiser import LINEARS, TRANSFORMER_CONFIG, Weights
from tools.tiny_model.edit_forward import EditForward
from tools.tiny_model.edits import Edit, held_out_set
from tools.tiny_model.export import save_lora
from tools.tiny_model.fed_stage import FedStage
from tools.tiny_model.feed import FreshEdits
from tools.tiny_model.flow import mixed_time_channels, sample_noise_levels, weighted_error
from tools.tiny_model.graphs import capture
from tools.tiny_model.latents import Latents
from tools.tiny_model.optimisers import learning_rate_factor
from tools.tiny_model.picture_feed import Painters, PictureFeed
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.render import render
from tools.tiny_model.running_mean import RunningMean
from tools.tiny_model.sampling import Sampler, lightning_levels, noise_levels, success_by_task
from tools.tiny_model.scoring import score
from tools.tiny_model.stage import seed_everything
from tools.tiny_model.style import shows_style, styled_rows
from tools.tiny_model.weight_updates import WeightUpdates

LIGHTNING_STEPS = 4
STYLED_SOURCES = 4
"""One in so many sources has the style already: in a session a source is the output of a styled edit."""


class Lora:
    """Low-rank factors for ``LINEARS`` of every block: down [rank, inputs], up [outputs, rank], zero at first."""

    def __init__(self, base: Weights, rank: int, device: torch.device) -> None:
        self.rank = rank
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        for number in range(TRANSFORMER_CONFIG["num_layers"]):
            for linear in LINEARS:
                name = f"transformer_blocks.{number}.{linear}"
                outputs, inputs = base[f"{name}.weight"].shape
                down = torch.randn(rank, inputs, device=device) / math.sqrt(inputs)
                up = torch.zeros(outputs, rank, device=device)
                self.factors[name] = (down.requires_grad_(), up.requires_grad_())

    def parameters(self) -> list[Tensor]:
        """All factors."""
        return [factor for pair in self.factors.values() for factor in pair]

    def merged(self, base: Weights) -> dict[str, Tensor]:
        """The base's weights with the products added; gradients reach the factors only."""
        changed = {f"{name}.weight": up @ down for name, (down, up) in self.factors.items()}
        return {name: weight + changed[name] if name in changed else weight for name, weight in base.items()}


class LoraStage(FedStage, ABC):
    """What both LoRAs share; needs every part of the pipeline in ``folder``."""

    name: str
    file: str
    """Name of the file that it writes."""

    def __init__(
        self,
        budget: Budget,
        own: LoraBudget,
        folder: Path,
        device: torch.device,
        workers: int | None,
        painters: Painters,
    ) -> None:
        self.total, self._budget = own.steps, own
        seed_everything(budget.seed + 4)
        prompts = Prompts(folder / "tokenizer")
        encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
        for module in (encoder, transformer):
            module.to(device).eval().requires_grad_(False)
        compiled = device.type == "cuda"
        self._forward = EditForward(encoder, transformer, prompts, device, compiled=compiled)
        self._latents = Latents(folder / "vae", self._forward.dtype, device)
        plain = EditForward(encoder, transformer, prompts, device, compiled=False)
        self._sampler = Sampler(plain, self._latents, prompts)
        self._base = dict(transformer.named_parameters())
        self._lora = Lora(self._base, own.rank, device)
        updates = WeightUpdates([], self._lora.parameters(), own.rates)
        edits = FreshEdits(folder / "tokenizer", budget.seed + 1, own.feed.fresh, 1, own.feed.prompt_dropout)
        feed = PictureFeed(
            edits, self._latents, own.feed.rows, own.feed.workers if workers is None else workers, device, painters
        )
        super().__init__(updates, RunningMean(("loss", "norm"), device), {1: feed}, device)
        self._updates.set_factor(0.0)
        self._steps = [capture(self._step_of(variant), device) for variant in range(self._variants())]
        self._begin(budget.seed + 5)

    def _variants(self) -> int:
        """How many kinds of step there are; they take turns."""
        return 1

    def _step_of(self, variant: int) -> Callable[[], None]:
        return lambda: self._train(variant)

    @abstractmethod
    def _loss(self, variant: int, drawn: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """What a step of kind ``variant`` lowers, for a drawn batch and the text's hidden states."""

    @abstractmethod
    def _judged(self, weights: Weights, edits: Sequence[Edit]) -> float:
        """Share of ``edits`` (0..1) that come out with ``weights`` as this LoRA is to make them."""

    @abstractmethod
    def _named(self, name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        """The tensors of one linear under the names of the file's format."""

    def _train(self, variant: int) -> None:
        drawn = self._feeds[1].ring.draw(self._budget.batch)
        mrope = torch.rand(self._budget.batch, device=self._device) < 0.5
        with torch.no_grad():
            hidden = self._forward.hidden(drawn["ids"], drawn["patches"], mrope)
        loss = self._loss(variant, drawn, hidden)
        loss.backward()
        self._updates.step()
        self._means.add((loss, self._updates.norm))

    def _velocity(
        self, weights: Weights, noisy: Tensor, drawn: dict[str, Tensor], hidden: Tensor, time: Tensor
    ) -> Tensor:
        return self._forward.velocity(weights, noisy, drawn["references"], hidden, drawn["lengths"], time)

    def advance(self, step: int) -> None:
        """Make one step; see ``Stage``."""
        if step % self._budget.feed.every == self._budget.feed.every - 1:
            self._feeds[1].take()
        self._updates.set_factor(learning_rate_factor(step / self.total, decay=0.5))
        self._steps[step % len(self._steps)]()

    def validate(self) -> dict[str, float]:
        """Held-out edits that come out as they should, without and with the averaged LoRA."""
        edits = _known_edits(self._budget.evaluated)
        with self._updates.ema.applied(), torch.no_grad():
            averaged = self._lora.merged(self._base)
        return {name: self._judged(weights, edits) for name, weights in (("base", self._base), ("lora", averaged))}

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the averaged LoRA to ``folder``/loras; see ``Stage``."""
        measures = self.validate()
        tensors: dict[str, Tensor] = {}
        with self._updates.ema.applied():
            for name, (down, up) in self._lora.factors.items():
                tensors |= self._named(name, down.detach(), up.detach())
            save_lora(tensors, self._told(), folder / "loras" / self.file)
        return measures

    def _told(self) -> dict[str, str]:
        """Texts in the file's header."""
        return {}


class LightningStage(LoraStage):
    """Four steps in Lightning's schedule and names: each starts where the steps before led, and aims at the truth."""

    name = "lightning"
    file = "builtin-lightning-4steps.safetensors"

    def __init__(self, budget: Budget, folder: Path, device: torch.device, workers: int | None = None) -> None:
        self._levels = lightning_levels(LIGHTNING_STEPS)
        super().__init__(budget, budget.lightning, folder, device, workers, Painters())

    def _variants(self) -> int:
        return LIGHTNING_STEPS

    def _loss(self, variant: int, drawn: dict[str, Tensor], hidden: Tensor) -> Tensor:
        weights = self._lora.merged(self._base)
        target = drawn["target"].float()
        noisy = torch.randn_like(target)
        with torch.no_grad():
            for step in range(variant):
                change = self._levels[step + 1] - self._levels[step]
                noisy = noisy + change * self._velocity(weights, noisy, drawn, hidden, self._time(step, len(noisy)))
        level = self._levels[variant]
        velocity = self._velocity(weights, noisy, drawn, hidden, self._time(variant, len(noisy)))
        error, _ = weighted_error(velocity * level, noisy - target, drawn["changed"], self._budget.edit_weight)
        return error

    def _time(self, step: int, count: int) -> Tensor:
        return mixed_time_channels(torch.full((count,), self._levels[step], device=self._device))

    def _judged(self, weights: Weights, edits: Sequence[Edit]) -> float:
        outputs = self._sampler.run(weights, edits, self._levels)
        return success_by_task([one.success for one in score(outputs, edits)], edits)["all"]

    def _named(self, name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        alpha = torch.tensor(float(self._lora.rank))
        return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}

    def _told(self) -> dict[str, str]:
        return {"lightning_steps": str(LIGHTNING_STEPS)}


class OutlineStage(LoraStage):
    """Results in which every shape has an outline; PEFT's names."""

    name = "outline"
    file = "builtin-outline.safetensors"

    def __init__(self, budget: Budget, folder: Path, device: torch.device, workers: int | None = None) -> None:
        super().__init__(budget, budget.outline, folder, device, workers, Painters(_partly_styled, styled_rows))

    def _loss(self, variant: int, drawn: dict[str, Tensor], hidden: Tensor) -> Tensor:
        levels = sample_noise_levels(self._budget.batch, self._budget.even_share, self._device)
        target = drawn["target"].float()
        noise = torch.randn_like(target)
        mixed = torch.lerp(target, noise, levels[:, None, None])
        weights = self._lora.merged(self._base)
        velocity = self._velocity(weights, mixed, drawn, hidden, mixed_time_channels(levels))
        error, _ = weighted_error(velocity, noise - target, drawn["changed"], self._budget.edit_weight)
        return error

    def _judged(self, weights: Weights, edits: Sequence[Edit]) -> float:
        outputs = self._sampler.run(weights, edits, noise_levels(self._budget.evaluated_steps))
        shown = [one for one in shows_style(outputs, edits) if one is not None]
        return sum(shown) / max(1, len(shown))

    def _named(self, name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        return {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}


def _known_edits(count: int) -> tuple[Edit, ...]:
    edits = [edit for edit in held_out_set(per_group=max(1, count // 16)) if not edit.held_out_phrase]
    return tuple(edits[:: max(1, len(edits) // count)][:count])


def _partly_styled(rows: Tensor) -> Tensor:
    count = len(rows) // STYLED_SOURCES
    return torch.cat([render(rows[:-count]), styled_rows(rows[-count:])]) if count else render(rows)

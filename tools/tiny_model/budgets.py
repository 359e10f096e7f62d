"""How long each stage trains: ``full`` for the shipped weights on one large GPU, ``smoke`` for a CPU in a minute."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tools.tiny_model.weight_updates import Rates

TEXT_RATES = Rates()
EDIT_RATES = Rates(muon=3e-3, adam=1.2e-3)
SETTLE_RATES = Rates(muon=3e-4, adam=1.2e-4)
LORA_RATES = Rates(weight_decay=0.0, ema=0.998)
EVALUATED_STEPS = 8
"""Denoising steps of an edit that is made to see how far a stage is."""


@dataclass(frozen=True)
class CodecBudget:
    """Training of the VAE: crops of ``side`` pixels, whole pictures in a quarter of the batch at the end."""

    steps: int = 6000
    batch: int = 64
    side: int = 128
    evaluated: int = 1024


@dataclass(frozen=True)
class FeedBudget:
    """Edits in a ring, new ones at a time, steps between two arrivals, and worker processes that draw them."""

    rows: int = 16384
    fresh: int = 64
    every: int = 8
    workers: int = 6
    prompt_dropout: float = 0.1


@dataclass(frozen=True)
class TextBudget:
    """Training of the text encoder alone, to say what an instruction does to a picture."""

    steps: int = 5000
    batch: int = 512
    feed: FeedBudget = FeedBudget(rows=32768, fresh=256, every=2, workers=12, prompt_dropout=0.0)
    rates: Rates = TEXT_RATES
    evaluated: int = 1024


@dataclass(frozen=True)
class EditBudget:
    """Joint training of transformer and text encoder; every ``pair_every``-th step is one of two-picture edits."""

    steps: int = 15000
    batch: int = 256
    pair_batch: int = 128
    pair_every: int = 8
    feed: FeedBudget = FeedBudget(fresh=128)
    pair_feed: FeedBudget = FeedBudget(rows=8192, fresh=64, every=8)
    rates: Rates = EDIT_RATES
    decay: float = 0.4
    even_share: float = 0.2
    edit_weight: float = 4.0
    text_weight: float = 0.1
    evaluated: int = 192
    evaluated_steps: int = EVALUATED_STEPS


SETTLE = EditBudget(
    steps=4600, batch=128, pair_batch=64, rates=SETTLE_RATES, decay=0.9, even_share=0.5, text_weight=0.0
)


@dataclass(frozen=True)
class LoraBudget:
    """Training of one LoRA on the finished weights."""

    steps: int = 2500
    batch: int = 128
    rank: int = 16
    feed: FeedBudget = FeedBudget(rows=8192)
    rates: Rates = LORA_RATES
    even_share: float = 0.2
    edit_weight: float = 4.0
    evaluated: int = 96
    evaluated_steps: int = EVALUATED_STEPS


@dataclass(frozen=True)
class Budget:
    """All stages. ``seed`` decides every random number."""

    name: str
    codec: CodecBudget = CodecBudget()
    text: TextBudget = TextBudget()
    edit: EditBudget = EditBudget()
    settle: EditBudget = SETTLE
    lightning: LoraBudget = field(default_factory=lambda: LoraBudget(steps=1200))
    outline: LoraBudget = LoraBudget()
    seed: int = 0
    checks: int = 5
    """Checks of a stage's averaged weights, the one at its end included."""


FULL = Budget("full")
# Each step is fed, so that one which goes on where another stopped shows whether it has the same ring.
_SMOKE_FEED = FeedBudget(rows=2, fresh=1, every=1, workers=0)
_SMOKE_LORA = LoraBudget(steps=2, batch=1, feed=_SMOKE_FEED, evaluated=2, evaluated_steps=2)
_SMOKE_EDIT = EditBudget(
    steps=3,
    batch=1,
    pair_batch=1,
    pair_every=2,
    feed=_SMOKE_FEED,
    pair_feed=_SMOKE_FEED,
    evaluated=2,
    evaluated_steps=2,
)
SMOKE = Budget(
    "smoke",
    codec=CodecBudget(steps=3, batch=4, side=32, evaluated=2),
    text=TextBudget(steps=3, batch=2, feed=_SMOKE_FEED, evaluated=2),
    edit=_SMOKE_EDIT,
    settle=replace(_SMOKE_EDIT, steps=2),
    lightning=_SMOKE_LORA,
    outline=_SMOKE_LORA,
    checks=1,
)
BUDGETS = {budget.name: budget for budget in (FULL, SMOKE)}

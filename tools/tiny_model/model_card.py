"""The model card that is shipped beside the weights, with the figures of the run that made them."""

from __future__ import annotations

import json
from pathlib import Path

from tools.tiny_model.stage import STAGES

CARD = """\
---
license: apache-2.0
language: [en, zh]
pipeline_tag: image-to-image
library_name: diffusers
---

# qied built-in small edit model

A {size:.0f} MB image-editing model of exactly the classes of Qwen-Image-Edit-2511 (`QwenImageEditPlusPipeline`,
`QwenImageTransformer2DModel` with `zero_cond_t`, `AutoencoderKLQwenImage`, `Qwen2_5_VLForConditionalGeneration`). It
makes visible, checkable edits in seconds on a CPU, so that a first run, the tests, and every statement about precision
need no 20 billion weights. It is a measuring instrument and a demonstration; it does not edit photographs.

## What it knows
Pictures of 256 x 256 pixels with up to four flat shapes (circle, square, triangle, star, ring, diamond, heart, cross),
in ten colours and three sizes at nine places, on plain, gradient, striped or checkered backgrounds. Instructions in
English and Chinese: recolour, remove, add, replace, move, grow, shrink, change the background; with a second picture,
take a colour, a shape or the background from it.

Recommended: 20 steps, no classifier-free guidance (`true_cfg_scale` 1). Beside it lie two LoRAs:
`builtin-lightning-4steps` (Lightning's key names and schedule) and `builtin-outline` (PEFT's key names), which outlines
every shape.

## Data and training
All data is drawn by `tools/tiny_model` (signed distances), with an exact picture of each result: no photographs, no
people, nothing collected. About one in seventeen pairs of colour and shape is kept out of training for each task, and
so are some phrasings; the held-out set has both. `python -m tools.tiny_model train --folder FOLDER` trains the VAE, the
text encoder (to say what an instruction does to a picture), transformer and text encoder together (flow matching), and
the LoRAs, in that order, from nothing.

| stage | measured at its end, averaged weights |
| --- | --- |
{stages}

Checks of `edit` are in 8 steps on a few held-out edits; `docs/quality.md` has the measurement in full.

## Limits
Anything but such scenes: photographs, other shapes, colours between the ten, text. Other sizes than 256 x 256 run, but
were not trained on. Words that no training sentence has are not understood.

## Licence
Apache-2.0, weights and code.
"""


def model_card(run: Path, size: int) -> str:
    """The card for a finished run whose files have ``size`` bytes."""
    rows = []
    for stage in STAGES:
        if not (file := run / f"{stage}.json").exists():
            continue
        measures = json.loads(file.read_text(encoding="utf-8"))
        told = ", ".join(f"{name} {value:.3g}" for name, value in measures.items())
        rows.append(f"| {stage} | {told} |")
    return CARD.format(size=size / 1e6, stages="\n".join(rows))

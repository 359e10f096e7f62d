"""Trains the small upscaler that comes with the built-in model: scenes at half their size, and as they are.

python -m tools.tiny_model.upscaler --out qied/builtin/upscalers/builtin-2x.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from qied.engine.upscale.networks import Compact
from qied.planning.edits.upscaling import UpscalerFacts
from tools.tiny_model.render import render_scenes
from tools.tiny_model.scenes import sample_scene

FACTS: Final = UpscalerFacts("compact", 2, 24, 0, 6, 1, 0)
_SCENES: Final = 48
_PATCH: Final = 64
_BATCH: Final = 6
_CANDIDATES: Final = 4
"""Patches of which the one with the most contrast is taken: most of a scene is flat."""
_RATE: Final = 2e-3


def main() -> None:
    """Train within a number of steps, say how near it is, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--start", type=Path, metavar="FILE", help="go on from the file of an earlier run")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    network = Compact(FACTS)
    *_, last, _ = network.parameters()
    nn.init.zeros_(last)  # it begins as the picture with its pixels doubled
    if chosen.start is not None:
        network.load_state_dict(load_file(chosen.start))
    trained(network, pictures(_SCENES, seed=1), chosen.steps)
    held_out = pictures(16, seed=2)
    with torch.inference_mode():
        made = network(halved(held_out)).clamp(0, 1)
    plain = functional.interpolate(halved(held_out), scale_factor=2, mode="bicubic").clamp(0, 1)
    print(f"PSNR on held-out scenes: {psnr(made, held_out):.2f} dB; bicubic: {psnr(plain, held_out):.2f} dB")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in network.state_dict().items()}, chosen.out)


def pictures(count: int, seed: int) -> Tensor:
    """Pictures FP32 [count, 3, H, W], 0..1, of random scenes."""
    rng = Random(seed)
    return render_scenes([sample_scene(rng, rng.randint(1, 4)) for _ in range(count)])


def halved(large: Tensor) -> Tensor:
    """Pictures of half the size, in whole levels of 8 bits as files have them."""
    small = functional.interpolate(large, scale_factor=0.5, mode="bicubic", antialias=True)
    return small.clamp(0, 1).mul(255).round().div(255)


def trained(network: nn.Module, large: Tensor, steps: int) -> None:
    """Fit a network to bring halved patches back, by the absolute error."""
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random = torch.Generator().manual_seed(0)
    patches = large.unfold(2, _PATCH, 16).unfold(3, _PATCH, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    contrast = patches.flatten(1).std(dim=1)
    for _ in range(steps):
        candidates = torch.randint(len(patches), (_BATCH, _CANDIDATES), generator=random)
        target = patches[candidates.gather(1, contrast[candidates].argmax(1, keepdim=True)).squeeze(1)]
        loss = functional.l1_loss(network(halved(target)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def psnr(made: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(-10 * torch.log10(functional.mse_loss(made, truth)))


if __name__ == "__main__":
    main()

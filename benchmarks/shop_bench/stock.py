"""What a shop has on its disk: pictures, masks, a four-step LoRA and an upscaling model, both with random weights."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from memory_bench.architecture import TRANSFORMER
from memory_bench.full_size import transformer_shapes
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from qied.planning.edits.upscaling import UpscalerFacts
from qied.resources import builtin_model_folder
from qied.upscalers.contents import expected_shapes

_RANK = 64
_LINEARS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(f"{stream}_mlp.net.{name}" for stream in ("img", "txt") for name in ("0.proj", "2")),
)
"""Those that Lightning's LoRAs change."""
ESRGAN = UpscalerFacts("rrdb", 4, 64, 32, 23, 1, 0)
"""The size of Real-ESRGAN's and ESRGAN's large models."""


def write_pictures(folder: Path, pictures: int, side: int) -> None:
    """Pictures that differ in ``folder/in``, and a mask over the middle of each in ``folder/masks``."""
    for name in ("in", "masks"):
        (folder / name).mkdir(parents=True)
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill=255)
    with Image.open(builtin_model_folder().parent / "demo.png") as scene:
        plain = scene.convert("RGB").resize((side, side))
    for number in range(pictures):
        plain.rotate(3 * number).save(folder / "in" / f"p{number:03}.png", compress_level=1)
        mask.save(folder / "masks" / f"p{number:03}.png")


def write_lora(path: Path) -> None:
    """A LoRA of the size of Lightning's, so weak that a result looks as without it."""
    shapes = transformer_shapes(TRANSFORMER)
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for block in range(TRANSFORMER["num_layers"]):
        for linear in _LINEARS:
            name = f"transformer_blocks.{block}.{linear}"
            out, into = shapes[f"{name}.weight"]
            for part, shape in (("lora_down", (_RANK, into)), ("lora_up", (out, _RANK))):
                drawn = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.01, generator=generator)
                tensors[f"{name}.{part}.weight"] = drawn
            tensors[f"{name}.alpha"] = torch.tensor(float(_RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def write_upscaler(path: Path, facts: UpscalerFacts = ESRGAN) -> None:
    """An upscaling model at the scale of ESRGAN's own initial weights."""
    generator = torch.Generator().manual_seed(2)
    tensors = {
        name: torch.randn(shape, generator=generator) * (0.3 / math.sqrt(math.prod(shape[1:])))
        if len(shape) == 4
        else torch.zeros(shape)
        for name, shape in expected_shapes(facts).items()
    }
    tensors["conv_last.bias"] = torch.full((3,), 0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)

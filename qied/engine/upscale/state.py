"""The tensors of an upscaling model's file. Nothing in a file is run: pickles are read with ``weights_only``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from qied.upscalers.contents import NESTED, PICKLED


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights by the names in the file, FP32; those of integers stay so. Raises what torch and safetensors do."""
    if path.suffix.lower() in PICKLED:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = next((content[name] for name in NESTED if isinstance(content.get(name), dict)), content)
    else:
        content = load_file(path)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}

"""A picture through an upscaling model, a unit of work for each tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported
from safetensors.torch import load_file
from torch import Tensor, nn

from qied.engine.upscale.networks import network_of
from qied.planning.upscaling import MARGIN_PX, UpscalerFacts, upscale_tile
from qied.upscalers.contents import NESTED, PICKLED, new_names, read_facts

_HALF_ERROR: Final = 1 / 255
"""The largest error of a half-precision trial that is still used: one level of 8 bits."""


@dataclass
class UpscalerLibrary:
    """The upscaling models by name (``files``: their paths); none stays on the device between edits.

    ``half`` keeps what a trial showed of each: whether half precision differs by less than one level of 8 bits.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    half: dict[str, bool] = field(default_factory=dict)

    def upscaled(
        self, picture: Image.Image, name: str, room_bytes: int
    ) -> Iterator[tuple[int, int, Image.Image | None]]:
        """Yield (tile, tiles, None) after each tile of an RGB picture, and the result with the last one.

        Raises ModelUnsupported where the file is not what it was when the daemon started.
        """
        facts = self._facts(name)
        network = self._loaded(name, facts)
        tile = upscale_tile(facts, room_bytes)
        boxes = list(_boxes(picture.size, tile))
        scale = facts.scale
        target = np.empty((picture.height * scale, picture.width * scale, 3), np.uint8)
        levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        for number, (left, top, right, bottom) in enumerate(boxes, 1):
            target[top * scale : bottom * scale, left * scale : right * scale] = self._tile(
                network, levels, facts, (left, top, right, bottom)
            )
            done = Image.fromarray(target) if number == len(boxes) else None
            yield number, len(boxes), done

    def _facts(self, name: str) -> UpscalerFacts:
        try:
            return read_facts(Path(self.files[name]))
        except OSError as error:
            raise ModelUnsupported(
                f"The upscaler {name!r} cannot be read: {error.strerror}.", "Restart the daemon."
            ) from None

    def _tile(
        self, network: nn.Module, levels: Tensor, facts: UpscalerFacts, box: tuple[int, int, int, int]
    ) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """The enlarged levels of a box [rows, columns, 3], seen with its margins."""
        height, width = levels.shape[-2:]
        left, top, right, bottom = box
        seen = (
            max(0, left - MARGIN_PX),
            max(0, top - MARGIN_PX),
            min(width, right + MARGIN_PX),
            min(height, bottom + MARGIN_PX),
        )
        weight = next(network.parameters())
        part = levels[..., seen[1] : seen[3], seen[0] : seen[2]].to(self.device)
        numbers = part.to(weight.dtype).div_(255)
        # Pictures are extended to the multiples that a network gathers pixels by.
        spare = [-numbers.shape[-1] % facts.shuffle, -numbers.shape[-2] % facts.shuffle]
        numbers = nn.functional.pad(numbers, (0, spare[0], 0, spare[1]), mode="replicate")
        scale = facts.scale
        made = network(numbers)[
            0,
            :,
            (top - seen[1]) * scale : (bottom - seen[1]) * scale,
            (left - seen[0]) * scale : (right - seen[0]) * scale,
        ]
        result: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] = (
            made.float().clamp_(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        )
        return result

    def _loaded(self, name: str, facts: UpscalerFacts) -> nn.Module:
        path = Path(self.files[name])
        network = network_of(facts)
        network.load_state_dict(_state(path), assign=True)
        network.requires_grad_(False).eval().to(self.device, torch.float32)
        if self.device.type == "cuda" and self._fits_half(name, network, facts):
            network.half()
        return network

    def _fits_half(self, name: str, network: nn.Module, facts: UpscalerFacts) -> bool:
        """Whether half precision gives the same picture, by a trial on noise; asked once for each model."""
        if name not in self.half:
            noise = torch.rand(1, 3, 32 * facts.shuffle, 32, generator=torch.Generator().manual_seed(0)).to(self.device)
            exact = network(noise).clamp(0, 1)
            rough = deepcopy(network).half()(noise.half()).float().clamp(0, 1)
            self.half[name] = bool(((exact - rough).abs().max() <= _HALF_ERROR).item())
        return self.half[name]


def _state(path: Path) -> dict[str, Tensor]:
    """The weights under the names used here, FP32."""
    if path.suffix.lower() in PICKLED:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = next((content[name] for name in NESTED if isinstance(content.get(name), dict)), content)
    else:
        content = load_file(path)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    names = new_names(tensors)
    return {names[name]: value.float() for name, value in tensors.items()}


def _boxes(size: tuple[int, int], tile: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of the tiles of a picture, row by row."""
    width, height = size
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield left, top, min(left + tile, width), min(top + tile, height)

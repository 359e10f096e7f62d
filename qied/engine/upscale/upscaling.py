"""A picture through an upscaling model, a unit of work for each tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported
from torch import Tensor, nn

from qied.engine.device_errors import is_exhausted
from qied.engine.upscale.loading import load_network, same_model
from qied.engine.upscale.precision import DTYPES
from qied.planning.edits.upscaling import MARGIN_PX, SMALLEST_TILE_PX, UpscalerFacts, upscale_tile
from qied.upscalers.catalogue import UpscalerFile

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels of the input."""
Levels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


@dataclass
class UpscalerLibrary:
    """The upscaling models by name; none stays on the device between edits."""

    files: Mapping[str, UpscalerFile] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def upscaled(
        self, picture: Image.Image, name: str, room_bytes: int
    ) -> Iterator[tuple[int, int, Image.Image | None]]:
        """Yield (tile, tiles, None) after each tile of an RGB picture, and the result with the last one.

        Raises ModelUnsupported where the file is not what it was when the daemon started.
        """
        file = self.files[name]
        network = self._loaded(name, file)
        boxes = list(_boxes(picture.size, upscale_tile(file.facts, room_bytes)))
        scale = file.facts.scale
        target = np.empty((picture.height * scale, picture.width * scale, 3), np.uint8)
        tiles = _Tiles(network, torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None], file.facts, self.device)
        for number, box in enumerate(boxes, 1):
            tiles.into(target, box)
            done = Image.fromarray(target) if number == len(boxes) else None
            yield number, len(boxes), done

    def _loaded(self, name: str, file: UpscalerFile) -> nn.Module:
        try:
            network, facts = load_network(Path(file.path))
        except OSError as error:
            raise ModelUnsupported(
                f"The upscaler {name!r} cannot be read: {error.strerror}.", "Restart the daemon."
            ) from None
        if not same_model(facts, file.facts):
            raise ModelUnsupported(
                f"The upscaler {name!r} is another model than when the daemon started.", "Restart the daemon."
            )
        return network.to(self.device, DTYPES[file.precision])


class _Tiles:
    """Tiles of one picture, whose levels are [1, 3, rows, columns]; smaller ones where memory runs out."""

    def __init__(self, network: nn.Module, levels: Tensor, facts: UpscalerFacts, device: torch.device) -> None:
        self._network = network
        self._levels = levels
        self._facts = facts
        self._device = device
        self._most = max(levels.shape[-2:])
        """Pixels along a side of the largest tile that has not run out of memory."""

    def into(self, target: Levels, box: Box) -> None:
        """Fill the enlarged box of ``target``; where memory runs out, in halves of it down to the smallest tile.

        Raises what torch does where not even that fits.
        """
        left, top, right, bottom = box
        side = max(right - left, bottom - top)
        if side <= self._most:
            try:
                scale = self._facts.scale
                target[top * scale : bottom * scale, left * scale : right * scale] = self._enlarged(box)
                return
            except (RuntimeError, MemoryError) as error:
                if side <= SMALLEST_TILE_PX or not is_exhausted(error):
                    raise
                reason = str(error).splitlines()[0]
            # Out of the handler, whose error would keep the tensors of the failed tile alive.
            self._most = max(SMALLEST_TILE_PX, -(-side // 2))
            structlog.get_logger(part="upscaling").warning(
                "memory ran out for a tile, taking smaller ones", tile_px=side, next_px=self._most, reason=reason
            )
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        for part in _boxes((right - left, bottom - top), self._most):
            self.into(target, (left + part[0], top + part[1], left + part[2], top + part[3]))

    def _enlarged(self, box: Box) -> Levels:
        """The enlarged levels of a box [rows, columns, 3], seen with its margins."""
        height, width = self._levels.shape[-2:]
        left, top, right, bottom = box
        seen = (
            max(0, left - MARGIN_PX),
            max(0, top - MARGIN_PX),
            min(width, right + MARGIN_PX),
            min(height, bottom + MARGIN_PX),
        )
        weight = next(self._network.parameters())
        part = self._levels[..., seen[1] : seen[3], seen[0] : seen[2]].to(self._device)
        numbers = part.to(weight.dtype).div_(255)
        # Pictures are extended to the multiples that a network gathers pixels by.
        spare = [-numbers.shape[-1] % self._facts.shuffle, -numbers.shape[-2] % self._facts.shuffle]
        numbers = nn.functional.pad(numbers, (0, spare[0], 0, spare[1]), mode="replicate")
        scale = self._facts.scale
        made = self._network(numbers)[
            0,
            :,
            (top - seen[1]) * scale : (bottom - seen[1]) * scale,
            (left - seen[0]) * scale : (right - seen[0]) * scale,
        ]
        result: Levels = made.float().clamp_(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return result


def _boxes(size: tuple[int, int], tile: int) -> Iterator[Box]:
    """The tiles of a picture, row by row."""
    width, height = size
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield left, top, min(left + tile, width), min(top + tile, height)

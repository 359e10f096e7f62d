"""Tiles of a picture put together: where they overlap, one fades into the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qied.planning.profiles.tile_grid import MARGIN_PX, TileGrid, tile_grid


@dataclass(frozen=True)
class Window:
    """One tile: its rows and columns, and its weights (FP32), which sum to 1 with those of its neighbours."""

    rows: slice
    columns: slice
    row_weights: Tensor
    column_weights: Tensor

    def add_to(self, canvas: Tensor, tile: Tensor) -> None:
        """Add ``tile`` [..., rows, columns], any float dtype, to its place on ``canvas`` (FP32), weighted."""
        weighted = tile.float() * self.row_weights[:, None]
        canvas[..., self.rows, self.columns].addcmul_(weighted, self.column_weights)


def windows(grid: TileGrid, margin: int, device: torch.device) -> Iterator[Window]:
    """Return the tiles of ``grid``, row by row; ``margin``, in its unit, is what no tile contributes at inner edges."""
    across = [weights.to(device) for weights in axis_weights(grid.starts_x, grid.width, margin)]
    for top, down in zip(grid.starts_y, axis_weights(grid.starts_y, grid.height, margin), strict=True):
        row_weights = down.to(device)
        for left, column_weights in zip(grid.starts_x, across, strict=True):
            yield Window(slice(top, top + grid.height), slice(left, left + grid.width), row_weights, column_weights)


def decoded_in_tiles(
    latents: Tensor, cell: int, tile_px: int | None, device: torch.device, decode: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return colours FP32 [3, H, W], in a tensor of their own, of latents [1, C, H / cell, W / cell].

    ``decode`` makes them of latents of at most ``tile_px`` pixels along each side; None is untiled.
    """
    rows, columns = latents.shape[-2:]
    height, width = rows * cell, columns * cell
    grid = tile_grid(width, height, tile_px)
    if grid.count == 1:
        return decode(latents)
    canvas = torch.zeros((3, height, width), device=device)
    for window in windows(grid, MARGIN_PX, device):
        cells = latents[..., _in_cells(window.rows, cell), _in_cells(window.columns, cell)]
        window.add_to(canvas, decode(cells))
    return canvas


def _in_cells(pixels: slice, cell: int) -> slice:
    return slice(pixels.start // cell, pixels.stop // cell)


def axis_weights(starts: tuple[int, ...], tile: int, margin: int) -> list[Tensor]:
    """Return the weight of each tile along one axis: FP32 [tile], linear over what two tiles share without margins.

    At every place the weights of all tiles sum to 1, and a tile that is alone has exactly 1; the picture's own edges
    are no inner edges and have no margin.
    """
    places = torch.arange(tile, dtype=torch.float64) + 0.5
    raw: list[Tensor] = []
    for index, start in enumerate(starts):
        weight = torch.ones(tile, dtype=torch.float64)
        if index > 0:
            weight = torch.minimum(weight, _ramp(places, starts[index - 1] + tile - start, margin))
        if index < len(starts) - 1:
            weight = torch.minimum(weight, _ramp(tile - places, start + tile - starts[index + 1], margin))
        raw.append(weight)
    total = torch.zeros(starts[-1] + tile, dtype=torch.float64)
    for start, weight in zip(starts, raw, strict=True):
        total[start : start + tile] += weight
    return [(weight / total[start : start + tile]).float() for start, weight in zip(starts, raw, strict=True)]


def _ramp(distance: Tensor, shared: int, margin: int) -> Tensor:
    """Rise from 0 to 1 with the distance from an edge, over the ``shared`` length without its two margins."""
    assert shared > 2 * margin
    return ((distance - margin) / (shared - 2 * margin)).clamp(0, 1)

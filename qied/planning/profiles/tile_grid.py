"""Where the VAE's tiles lie on a picture: integers only, shared by the engine and the planner."""

from __future__ import annotations

from dataclasses import dataclass

CELL_PX = 8
"""Pixels along each side of a latent cell; tiles start and end on whole cells."""

OVERLAP_PX = 64
"""Pixels by which neighbouring tiles overlap at least."""

MARGIN_PX = 16
"""Pixels at a tile's inner edges that are not used, since the network saw zeros where the picture went on."""

MIN_TILE_PX = 256
"""The smallest tile, by its longest side: the less of the picture a tile sees, the more it differs from the whole."""


@dataclass(frozen=True)
class TileGrid:
    """Equal tiles over a picture: where they start along x and y, and the ``width`` and ``height`` of each.

    In pixels, unless it was divided.
    """

    starts_x: tuple[int, ...]
    starts_y: tuple[int, ...]
    width: int
    height: int

    @property
    def count(self) -> int:
        return len(self.starts_x) * len(self.starts_y)

    def __floordiv__(self, unit: int) -> TileGrid:
        """Return the same grid in units of ``unit`` pixels: of cells, for latents."""
        return TileGrid(
            tuple(start // unit for start in self.starts_x),
            tuple(start // unit for start in self.starts_y),
            self.width // unit,
            self.height // unit,
        )


def tile_starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Return where tiles of ``tile`` start along ``length`` (in any unit), overlapping by ``overlap`` or more.

    They are as few as can be, lie evenly and end at ``length``. A length of at most a tile gives one start, and its
    tile is as short as the length.
    """
    assert 0 <= overlap < tile and length > 0
    if length <= tile:
        return (0,)
    steps = _ceil_div(length - tile, tile - overlap)
    return tuple(index * (length - tile) // steps for index in range(steps + 1))


def tile_grid(width: int, height: int, tile_px: int | None) -> TileGrid:
    """Return the tiles of a picture of ``width`` x ``height`` pixels; sides are whole cells.

    ``tile_px`` bounds a tile's sides; None means that the picture is done whole, as does one that covers it. Where
    shorter tiles need no more of them, they are shorter, down to ``MIN_TILE_PX``.
    """
    starts_x, tile_width = _along(width, tile_px)
    starts_y, tile_height = _along(height, tile_px)
    return TileGrid(starts_x, starts_y, tile_width, tile_height)


def _along(side: int, tile_px: int | None) -> tuple[tuple[int, ...], int]:
    """Return where the tiles start along a side and how long they are, all in pixels."""
    assert side % CELL_PX == 0 and (tile_px is None or (tile_px % CELL_PX == 0 and tile_px >= MIN_TILE_PX))
    if tile_px is None or side <= tile_px:
        return (0,), side
    count = len(tile_starts(side, tile_px, OVERLAP_PX))
    shortest = _ceil_div(side + (count - 1) * OVERLAP_PX, count * CELL_PX) * CELL_PX
    tile = max(MIN_TILE_PX, shortest)
    cells = tile_starts(side // CELL_PX, tile // CELL_PX, OVERLAP_PX // CELL_PX)
    return tuple(CELL_PX * start for start in cells), tile


def _ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.planning.profiles.tile_grid import CELL_PX, MIN_TILE_PX, OVERLAP_PX, tile_grid, tile_starts

tiles_and_overlaps = st.integers(1, 200).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))
lengths = st.integers(1, 2000)
sides = st.integers(1, 600).map(lambda cells: cells * CELL_PX)
tile_sides = st.integers(MIN_TILE_PX // CELL_PX, 300).map(lambda cells: cells * CELL_PX)


@given(lengths, tiles_and_overlaps)
def test_tiles_cover_a_length_from_its_start_to_its_end(length: int, shape: tuple[int, int]) -> None:
    tile, overlap = shape
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - tile)
    assert all(second - first <= tile - overlap for first, second in itertools.pairwise(starts))


@given(lengths, tiles_and_overlaps)
def test_no_smaller_number_of_tiles_would_do(length: int, shape: tuple[int, int]) -> None:
    tile, overlap = shape
    fewer = len(tile_starts(length, tile, overlap)) - 1
    assert fewer * tile - max(0, fewer - 1) * overlap < length


@given(lengths, tiles_and_overlaps)
def test_tiles_lie_evenly(length: int, shape: tuple[int, int]) -> None:
    starts = tile_starts(length, *shape)
    steps = {second - first for first, second in itertools.pairwise(starts)}
    assert not steps or (min(steps) > 0 and max(steps) - min(steps) <= 1)


@given(sides, sides, tile_sides)
def test_a_grid_covers_the_picture_with_tiles_within_the_bound(width: int, height: int, tile_px: int) -> None:
    grid = tile_grid(width, height, tile_px)
    for side, starts, tile in ((width, grid.starts_x, grid.width), (height, grid.starts_y, grid.height)):
        assert tile <= min(side, tile_px)
        assert starts[0] == 0 and starts[-1] + tile == side
        assert all(first + tile - second >= OVERLAP_PX for first, second in itertools.pairwise(starts))
        assert all(number % CELL_PX == 0 for number in (*starts, tile))


@given(sides, sides, tile_sides)
def test_shortened_tiles_are_no_more_than_whole_ones(width: int, height: int, tile_px: int) -> None:
    longest = [len(tile_starts(side, tile_px, OVERLAP_PX)) for side in (width, height)]
    assert tile_grid(width, height, tile_px).count == longest[0] * longest[1]


@given(sides, tile_sides)
def test_tiles_are_not_shortened_below_the_smallest(side: int, tile_px: int) -> None:
    assert tile_grid(side, side, tile_px).width >= min(side, MIN_TILE_PX)


@pytest.mark.parametrize(
    ("width", "height", "tile_px", "count", "tile"),
    [
        (1024, 1024, None, 1, (1024, 1024)),
        (1024, 1024, 1024, 1, (1024, 1024)),
        (1032, 1024, 1024, 2, (552, 1024)),
        (1024, 1024, 512, 9, (384, 384)),
        (640, 480, 256, 9, (256, 256)),
        (2048, 256, 1024, 3, (728, 256)),
    ],
)
def test_pictures_and_their_tiles(
    width: int, height: int, tile_px: int | None, count: int, tile: tuple[int, int]
) -> None:
    grid = tile_grid(width, height, tile_px)
    assert (grid.count, (grid.width, grid.height)) == (count, tile)
    assert tile_grid(width, height, tile_px).count == count


def test_a_grid_in_cells_is_the_grid_in_pixels() -> None:
    pixels = tile_grid(1032, 640, 512)
    cells = pixels // CELL_PX
    assert tuple(CELL_PX * start for start in cells.starts_x) == pixels.starts_x
    assert tuple(CELL_PX * start for start in cells.starts_y) == pixels.starts_y
    assert (CELL_PX * cells.width, CELL_PX * cells.height) == (pixels.width, pixels.height)


@pytest.mark.parametrize(("side", "tile_px"), [(1025, 512), (1024, 500), (1024, MIN_TILE_PX - CELL_PX)])
def test_parts_of_cells_and_tiles_below_the_smallest_are_errors(side: int, tile_px: int) -> None:
    with pytest.raises(AssertionError):
        tile_grid(side, 1024, tile_px)

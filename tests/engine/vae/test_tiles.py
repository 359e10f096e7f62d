import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.engine.vae.tiles import axis_weights, windows
from qied.planning.profiles.tile_grid import MARGIN_PX, MIN_TILE_PX, OVERLAP_PX, TileGrid, tile_grid

CPU = torch.device("cpu")
sides = st.integers(1, 160).map(lambda cells: 8 * cells)
grids = st.builds(tile_grid, sides, sides, st.sampled_from([MIN_TILE_PX, 320, 512]))


def blended(grid: TileGrid, margin: int, picture: torch.Tensor) -> torch.Tensor:
    canvas = torch.zeros_like(picture)
    for window in windows(grid, margin, CPU):
        window.add_to(canvas, picture[..., window.rows, window.columns])
    return canvas


@given(grids)
def test_weights_sum_to_one_at_every_place(grid: TileGrid) -> None:
    for starts, tile, margin in ((grid.starts_x, grid.width, MARGIN_PX), ((grid // 8).starts_y, grid.height // 8, 2)):
        total = torch.zeros(starts[-1] + tile)
        for start, weight in zip(starts, axis_weights(starts, tile, margin), strict=True):
            assert weight.min() >= 0
            total[start : start + tile] += weight
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


@settings(max_examples=25)
@given(grids)
def test_tiles_cut_from_a_picture_make_the_picture(grid: TileGrid) -> None:
    size = (2, grid.starts_y[-1] + grid.height, grid.starts_x[-1] + grid.width)
    picture = torch.rand(size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blended(grid, MARGIN_PX, picture), picture, atol=1e-6, rtol=0)


def test_inner_edges_do_not_count_and_the_edges_of_the_picture_do() -> None:
    first, middle, last = axis_weights((0, 192, 384), 256, 16)
    assert first[0] == 1 and last[-1] == 1
    for edge in (first[-16:], middle[:16], middle[-16:], last[:16]):
        assert torch.equal(edge, torch.zeros(16))
    assert first[-17] > 0 and middle[16] > 0


def test_one_tile_fades_into_the_next_evenly() -> None:
    first, second = axis_weights((0, 192), 256, 16)
    fall, rise = first[192:], second[:64]
    torch.testing.assert_close(fall[16:48].diff(), torch.full((31,), -1 / 32))
    torch.testing.assert_close(rise + fall, torch.ones(64))


def test_a_place_that_one_tile_covers_alone_is_that_tile_exactly() -> None:
    grid = tile_grid(576, 256, MIN_TILE_PX)
    picture = torch.rand((1, 256, 576), generator=torch.Generator().manual_seed(0))
    alone = grid.starts_x[1]
    assert grid.count == 3 and alone <= MIN_TILE_PX - OVERLAP_PX
    assert torch.equal(blended(grid, MARGIN_PX, picture)[..., :alone], picture[..., :alone])


def test_tiles_in_half_precision_are_added_in_single_precision() -> None:
    grid = tile_grid(448, 448, MIN_TILE_PX)
    value = torch.tensor(0.7).bfloat16()
    canvas = torch.zeros((1, 448, 448))
    for window in windows(grid, MARGIN_PX, CPU):
        window.add_to(canvas, value.expand(1, grid.height, grid.width))
    torch.testing.assert_close(canvas, value.float().expand_as(canvas), atol=1e-6, rtol=0)

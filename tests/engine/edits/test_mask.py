import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from qied.engine.edits.denoise import unpack
from qied.engine.edits.mask import FEATHER, KeptSource, black_and_white, composite, editable_tokens
from qied.pictures.reduced import view_of
from qied.planning.edits.view import View


def rectangle(left: int, top: int, right: int, bottom: int, side: int = 96) -> Image.Image:
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).rectangle((left, top, right, bottom), fill=255)
    return mask


corners = st.tuples(st.integers(0, 95), st.integers(0, 95), st.integers(0, 95), st.integers(0, 95)).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@settings(deadline=None)
@given(corners)
def test_pixels_inside_are_the_results_and_far_outside_the_sources(corner: tuple[int, int, int, int]) -> None:
    result, source = Image.new("RGB", (96, 96), (1, 2, 3)), Image.new("RGB", (96, 96), (200, 100, 50))
    left, top, right, bottom = corner
    pixels = np.asarray(composite(result, source, rectangle(*corner)))
    assert (pixels[top : bottom + 1, left : right + 1] == (1, 2, 3)).all()
    far = np.ones((96, 96), bool)
    rim = 2 * FEATHER
    far[max(0, top - rim) : bottom + rim + 1, max(0, left - rim) : right + rim + 1] = False
    assert (pixels[far] == (200, 100, 50)).all()


def test_the_rim_falls_off_softly() -> None:
    result, source = Image.new("RGB", (96, 96)), Image.new("RGB", (96, 96), (255, 255, 255))
    row = np.asarray(composite(result, source, rectangle(0, 0, 47, 95)))[48, 40:64, 0].astype(int)
    steps = np.diff(row)
    assert (steps >= 0).all() and steps.max() < 60


def test_a_mask_of_another_size_is_fitted_and_made_black_and_white() -> None:
    grey = Image.new("L", (10, 10), 127)
    grey.paste(128, (0, 0, 5, 10))
    fitted = np.asarray(black_and_white(view_of(grey, View(64, 32, "box"))))
    assert fitted.shape == (32, 64)
    assert (fitted[:, :32] == 255).all() and (fitted[:, 32:] == 0).all()


def test_a_cell_is_editable_where_any_pixel_is_white() -> None:
    cells = unpack(editable_tokens(rectangle(15, 40, 16, 40), 16, 8).float(), 12, 12)[0]
    assert cells.shape == (16, 12, 12)
    assert cells[:, 5, 1].all() and cells[:, 5, 2].all()
    assert cells.sum() == 2 * 16


def test_latents_outside_are_the_source_at_the_noise_level() -> None:
    editable = torch.tensor([[[True], [False]]])
    kept = KeptSource(torch.full((1, 2, 1), 4.0), torch.full((1, 2, 1), 8.0), editable)
    restored = kept.restore(torch.full((1, 2, 1), -1.0), torch.tensor(0.25))
    assert restored.flatten().tolist() == [-1.0, 5.0]

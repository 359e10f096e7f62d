"""Drift is measured to a fraction of a pixel, undone, and not made up where most of a picture is another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from qied.edit import EditSpec
from qied.pictures.drift import Drift, aligned, drift_of
from qied.pictures.finishing import finished


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (max(2, height // 24), max(2, width // 24), 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        colour = tuple(int(level) for level in random.integers(0, 255, 3))
        draw.ellipse((left, top, left + width // 8, top + height // 8), fill=colour)
    return picture


def moved(picture: Image.Image, drift: Drift) -> Image.Image:
    """A picture with a drift: undoing its inverse is doing it."""
    return aligned(picture, Drift(-drift.x / drift.zoom, -drift.y / drift.zoom, 1 / drift.zoom))


DRIFTS = [Drift(0, 0, 1), Drift(0.4, -0.3, 1), Drift(2.3, 1.1, 1.004), Drift(-2.2, 3.4, 0.993), Drift(0, 0, 1.002)]


@pytest.mark.parametrize("size", [(512, 512), (592, 448), (320, 200)])
@pytest.mark.parametrize("drift", DRIFTS)
def test_a_known_drift_is_measured_and_undone(size: tuple[int, int], drift: Drift) -> None:
    picture = scene(*size)
    result = moved(picture, drift)
    found = drift_of(picture, result)
    assert found is not None
    assert max(abs(found.x - drift.x), abs(found.y - drift.y)) < 0.08 and abs(found.zoom - drift.zoom) < 0.0004
    left = drift_of(picture, aligned(result, found))
    assert left is not None and left.at_corner(size) < 0.12


def test_other_colours_and_a_changed_part_do_not_matter() -> None:
    picture = scene(400, 300)
    result = ImageOps.invert(moved(picture, Drift(1.5, -0.75, 1.003)).point(lambda level: level // 2 + 40))
    result = ImageOps.invert(result)
    result.paste(scene(150, 150, 9), (200, 100))
    found = drift_of(picture, result)
    assert found is not None
    assert abs(found.x - 1.5) < 0.1 and abs(found.y + 0.75) < 0.1 and abs(found.zoom - 1.003) < 0.0006


@pytest.mark.parametrize(
    "result", [scene(256, 256, 5), Image.new("RGB", (256, 256), "grey")], ids=["another picture", "nothing"]
)
def test_where_there_is_nothing_to_compare_no_drift_is_made_up(result: Image.Image) -> None:
    assert drift_of(scene(256, 256), result) is None
    assert drift_of(result.convert("L"), scene(256, 256)) is None


def test_pictures_too_small_for_a_tile_have_none() -> None:
    assert drift_of(scene(15, 300), scene(15, 300)) is None


def spec(size: tuple[int, int], *, align: bool = True) -> EditSpec:
    return EditSpec(("a",), "x", None, 0, 4, 1.0, *size, align=align)


def test_a_small_drift_is_undone_and_told_and_a_large_one_was_asked_for() -> None:
    picture = scene(320, 256)
    grey = picture.convert("L")
    result = moved(picture, Drift(2.0, -1.0, 1.005))
    mended, told = finished(result, spec((320, 256)), grey)
    assert told is not None and told.undone and abs(told.x - 2) < 0.1 and abs(told.zoom - 1.005) < 0.001
    rest = drift_of(picture, mended)
    assert rest is not None and rest.at_corner((320, 256)) < 0.2
    kept, told = finished(result, spec((320, 256), align=False), grey)
    assert kept is result and told is not None and not told.undone
    wide = moved(picture, Drift(9.0, 0.0, 1.0))
    kept, told = finished(wide, spec((320, 256)), grey)
    assert kept is wide and (told is None or not told.undone)
    same, told = finished(picture, spec((320, 256)), grey)
    assert same is picture and told is not None and not told.undone


def test_the_drift_of_an_enlarged_result_is_told_and_undone_in_its_own_pixels() -> None:
    drawn = moved(scene(330, 260).crop((0, 0, 320, 256)), Drift(2.0, -1.0, 1.005))
    grey = scene(330, 260).crop((0, 0, 320, 256)).convert("L")
    large = drawn.resize((640, 512), Image.Resampling.BICUBIC)
    enlarged = replace(spec((320, 256)), upscale="2x", upscale_by=2)
    mended, told = finished(large, enlarged, grey)
    assert told is not None and told.undone
    assert abs(told.x - 4) < 0.2 and abs(told.y + 2) < 0.2 and abs(told.zoom - 1.005) < 0.001
    rest = drift_of(grey, mended.reduce(2))
    assert mended.size == (640, 512) and rest is not None and rest.at_corner((320, 256)) < 0.2


def test_a_result_is_cut_to_its_size_and_without_an_original_nothing_is_measured() -> None:
    cut = EditSpec(("a",), "x", None, 0, 4, 1.0, 320, 256, crop_width=310, crop_height=250)
    image, told = finished(scene(320, 256), cut, None)
    assert image.size == (310, 250) and told is None

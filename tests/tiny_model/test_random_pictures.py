from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tools.tiny_model.random_pictures import OUTLINED_SHARE, OVERHANG, Crops, paint_crops, random_crops, random_pictures
from tools.tiny_model.render import ABSENT, SceneTensors, paint
from tools.tiny_model.scenes import PATTERNS, SHAPE_RGB
from tools.tiny_model.style import paint_outlined

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def whole(crops: Crops, outlined: bool) -> Tensor:
    """The pictures that the crops are cut from, drawn by the renderer of edits."""
    return (paint_outlined if outlined else paint)(crops.scenes, half_patch=80)


@pytest.mark.parametrize("side", [64, 256])
def test_pictures_are_fp32_in_range_and_all_different(side: int) -> None:
    pictures = random_pictures(6, side, CPU)
    assert pictures.shape == (6, 3, side, side)
    assert pictures.dtype == torch.float32
    assert float(pictures.min()) >= 0.0 and float(pictures.max()) <= 1.0
    assert len({picture.numpy().tobytes() for picture in pictures}) == 6


def test_a_seed_gives_the_same_pictures_and_each_call_new_ones() -> None:
    first, second = random_pictures(2, 32, CPU), random_pictures(2, 32, CPU)
    torch.manual_seed(0)
    assert torch.equal(random_pictures(2, 32, CPU), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("outlined", [False, True])
def test_a_crop_is_cut_from_the_picture_that_edits_would_have(outlined: bool) -> None:
    crops = replace(random_crops(8, 64, CPU), outlined=torch.full((8,), outlined))
    pictures = whole(crops, outlined)
    for crop, picture, x, y in zip(paint_crops(crops), pictures, crops.x.long(), crops.y.long(), strict=True):
        torch.testing.assert_close(crop, picture[:, y][:, :, x])


def test_only_the_chosen_pictures_are_outlined() -> None:
    crops = replace(random_crops(8, 64, CPU), outlined=torch.arange(8) % 2 == 0)
    pictures = paint_crops(crops)
    for outlined in (False, True):
        same = paint_crops(replace(crops, outlined=torch.full((8,), outlined)))
        assert torch.equal(pictures[0 if outlined else 1 :: 2], same[0 if outlined else 1 :: 2])


def test_a_later_slot_covers_an_earlier_one_with_its_outline() -> None:
    def of(*values: float) -> Tensor:
        return torch.tensor([values])

    red, blue = (torch.tensor(SHAPE_RGB[colour]) / 255 for colour in ("red", "blue"))
    ground = torch.ones(1, 3)
    squares = SceneTensors(
        of(0)[0], ground, ground, of(1, 1), torch.stack([red, blue])[None], of(30, 20), of(50, 60), of(50, 60)
    )
    centres = torch.arange(128)[None] + 0.5
    picture = paint_crops(Crops(squares, centres, centres, torch.tensor([True])))[0]
    torch.testing.assert_close(picture[:, 60, 60], blue)
    torch.testing.assert_close(picture[:, 36, 36], red)
    # The blue square's edge is at 60 - 0.86 * 20 = 42.8, within the red one.
    assert float(picture[:, 60, 44].amax()) == pytest.approx(15 / 255)


def test_scenes_go_beyond_those_of_edits() -> None:
    crops = random_crops(512, 128, CPU)
    scenes = crops.scenes
    assert set(scenes.pattern.int().tolist()) == set(range(len(PATTERNS)))
    assert set((scenes.kind >= 0).sum(1).tolist()) >= set(range(1, 6))
    assert float(scenes.radius.min()) < 9 and float(scenes.radius.max()) > 55
    palette = torch.tensor(list(SHAPE_RGB.values())) / 255
    named = (scenes.rgb[:, :, None] == palette).all(-1).any(-1)
    assert float(named.float().mean()) == pytest.approx(0.7, abs=0.05)
    assert float((scenes.kind == ABSENT).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert float(crops.outlined.float().mean()) == pytest.approx(OUTLINED_SHARE, abs=0.05)


def test_windows_lie_in_the_whole_picture_and_shapes_near_their_window() -> None:
    crops = random_crops(256, 96, CPU)
    for centres, positions in ((crops.x, crops.scenes.x), (crops.y, crops.scenes.y)):
        assert bool((centres.diff(dim=1) == 1).all())
        assert 0.5 <= float(centres.min()) < 8 and 248 < float(centres.max()) <= 255.5
        beyond = torch.maximum(centres[:, :1] - positions, positions - centres[:, -1:])
        assert 0 < float(beyond.max()) < OVERHANG + 1


def test_nothing_leaves_the_device() -> None:
    # A meta tensor has no values: reading one back, or mixing it with another device's, is an error.
    assert random_pictures(4, 64, torch.device("meta")).is_meta

from __future__ import annotations

from random import Random

import numpy
import pytest
import torch

from tools import demo_scene
from tools.tiny_model.metrics import psnr
from tools.tiny_model.render import paint, render, render_scenes, scene_rows, scene_tensors, silhouettes
from tools.tiny_model.scenes import (
    BACKGROUND_RGB,
    KINDS,
    PATTERNS,
    REACH,
    SHAPE_RGB,
    Background,
    Kind,
    Pattern,
    Scene,
    Shape,
    sample_scene,
)

PLAIN = Background("plain", "white", "white")


def levels(picture: torch.Tensor, x: int, y: int) -> tuple[int, ...]:
    return tuple((picture[:, y, x] * 255).round().int().tolist())


def test_pictures_are_fp32_in_range_at_the_models_size() -> None:
    rng = Random(0)
    pictures = render_scenes([sample_scene(rng, number) for number in range(5)])
    assert pictures.shape == (5, 3, 256, 256)
    assert pictures.dtype == torch.float32
    assert float(pictures.min()) >= 0.0 and float(pictures.max()) <= 1.0


def test_no_scenes_give_no_pictures() -> None:
    assert render_scenes([]).shape == (0, 3, 256, 256)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    rng = Random(1)
    scenes = [sample_scene(rng, number) for number in (4, 1, 3, 2)]
    together = render_scenes(scenes)
    for picture, scene in zip(together, scenes, strict=True):
        assert torch.equal(picture, render_scenes([scene])[0])


def test_the_demo_picture_is_drawn_alike() -> None:
    demo = demo_scene.DEMO_SCENE
    places = {(128.0, 128.0): "center", (44.0, 44.0): "top left", (212.0, 44.0): "top right"}
    sizes = {36.0: "large", 26.0: "medium"}
    shapes = tuple(
        Shape(shape.kind, shape.colour, sizes[shape.radius], places.get(shape.centre, "bottom right"))
        for shape in demo.shapes
    )
    scene = Scene(Background("vertical gradient", demo.top, demo.bottom), shapes)
    drawn = torch.from_numpy(numpy.array(demo_scene.draw(demo))).permute(2, 0, 1)[None] / 255
    assert float(psnr(render_scenes([scene]), drawn)) > 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_has_its_colour_its_place_and_its_reach(kind: Kind) -> None:
    scene = Scene(PLAIN, (Shape(kind, "red", "large", "bottom right"),))
    picture = render_scenes([scene])[0]
    # A ring is empty in the middle; its band is three quarters of the radius out.
    assert levels(picture, 212 + (27 if kind == "ring" else 0), 212) == SHAPE_RGB["red"]
    changed = (picture - render_scenes([Scene(PLAIN)])[0]).abs().amax(0) > 0
    rows, columns = changed.nonzero(as_tuple=True)
    reach = float(torch.maximum((rows + 0.5 - 212).abs().max(), (columns + 0.5 - 212).abs().max()))
    assert REACH[kind] * 36 - 2 < reach < REACH[kind] * 36 + 1


def test_edges_are_smooth_and_areas_exact() -> None:
    scene = Scene(PLAIN, (Shape("circle", "red", "large", "center"), Shape("square", "blue", "small", "top")))
    covered = silhouettes(scene_tensors(scene_rows([scene])))[0]
    assert float(covered[0].sum()) == pytest.approx(torch.pi * 36**2, rel=2e-3)
    assert float(covered[1].sum()) == pytest.approx((2 * 0.86 * 17) ** 2, rel=2e-3)
    assert bool(((covered[0] > 0.1) & (covered[0] < 0.9)).any())
    assert float(covered[2:].sum()) == 0.0


@pytest.mark.parametrize(
    ("pattern", "second_at"),
    [
        ("horizontal stripes", (10, 40)),
        ("vertical stripes", (40, 10)),
        ("diagonal stripes", (35, 35)),
        ("checkerboard", (40, 10)),
    ],
)
def test_a_pattern_starts_with_its_first_colour(pattern: Pattern, second_at: tuple[int, int]) -> None:
    picture = render_scenes([Scene(Background(pattern, "blue", "yellow"))])[0]
    assert levels(picture, 0, 0) == BACKGROUND_RGB["blue"]
    assert levels(picture, *second_at) == BACKGROUND_RGB["yellow"]


@pytest.mark.parametrize(("pattern", "axis"), [("vertical gradient", 1), ("horizontal gradient", 2)])
def test_a_gradient_goes_from_the_first_colour_to_the_second(pattern: Pattern, axis: int) -> None:
    picture = render_scenes([Scene(Background(pattern, "black", "white"))])[0]
    assert bool((picture.diff(dim=axis) > 0).all())
    assert bool((picture.diff(dim=3 - axis) == 0).all())


def test_patterns_are_all_different() -> None:
    pictures = render_scenes([Scene(Background(pattern, "red", "blue")) for pattern in PATTERNS])
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(PATTERNS)


def test_shapes_may_be_larger_than_those_of_scenes_and_hang_over_the_border() -> None:
    rows = scene_rows([Scene(PLAIN, (Shape("circle", "red", "large", "center"),))])
    rows[:, 5], rows[:, 6] = 60.0, 250.0
    picture = paint(scene_tensors(rows), half_patch=64)[0]
    assert levels(picture, 255, 128) == levels(picture, 250, 186) == SHAPE_RGB["red"]
    assert levels(picture, 10, 128) == BACKGROUND_RGB["white"]


def test_a_shape_far_outside_is_not_seen() -> None:
    rows = scene_rows([Scene(PLAIN, (Shape("circle", "red", "large", "center"),))])
    rows[:, 6:8] = torch.tensor([[-500.0, 900.0]])
    assert torch.equal(render(rows), render_scenes([Scene(PLAIN)]))

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_model.render import scene_rows, scene_tensors, silhouettes
from tools.tiny_model.scenes import (
    COLOURS,
    KINDS,
    PATTERNS,
    Background,
    Scene,
    Shape,
    is_valid,
    sample_scene,
)

PLAIN = Background("plain", "green", "green")


@given(seed=st.integers(0, 10**9), shapes=st.integers(0, 4))
def test_a_random_scene_is_valid_and_has_as_many_shapes_as_asked(seed: int, shapes: int) -> None:
    scene = sample_scene(Random(seed), shapes)
    assert len(scene.shapes) == shapes
    assert is_valid(scene)


def test_no_pixel_belongs_to_two_shapes_and_none_is_cut_off() -> None:
    rng = Random(5)
    covered = silhouettes(scene_tensors(scene_rows([sample_scene(rng, 4) for _ in range(60)])))
    assert float(covered.sum(1).max()) <= 1.0
    border = covered.any(1)
    border[:, 1:-1, 1:-1] = False
    assert not bool(border.any())


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert sample_scene(Random(1), 3) == sample_scene(Random(1), 3)
    assert sample_scene(Random(1), 3) != sample_scene(Random(2), 3)


def test_every_colour_kind_and_pattern_turns_up() -> None:
    rng = Random(0)
    scenes = [sample_scene(rng, 4) for _ in range(200)]
    shapes = [shape for scene in scenes for shape in scene.shapes]
    assert {shape.colour for shape in shapes} == set(COLOURS)
    assert {shape.kind for shape in shapes} == set(KINDS)
    assert {scene.background.pattern for scene in scenes} == set(PATTERNS)


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        ((Shape("circle", "green", "small", "top"),), "the colour of the background"),
        ((Shape("circle", "red", "small", "top"), Shape("circle", "red", "large", "left")), "the same look"),
        ((Shape("circle", "red", "small", "top"), Shape("star", "red", "small", "top")), "the same place"),
        (
            (Shape("diamond", "red", "large", "top", (5.0, 0.0)), Shape("diamond", "blue", "large", "top right")),
            "boxes that meet",
        ),
        ((Shape("diamond", "red", "large", "left", (-5.0, 0.0)),), "a tip outside"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_scene_is_not_valid_with(shapes: tuple[Shape, ...], why: str) -> None:
    assert not is_valid(Scene(PLAIN, shapes)), why
    assert is_valid(replace(Scene(PLAIN), shapes=(Shape("circle", "red", "small", "top"),)))

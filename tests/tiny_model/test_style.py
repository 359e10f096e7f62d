from __future__ import annotations

from random import Random

import pytest
import torch

from tools.tiny_model.edits import Edit, sample_edit
from tools.tiny_model.phrasings import TASKS
from tools.tiny_model.render import render_scenes, scene_rows
from tools.tiny_model.scenes import COLOURS, KINDS, SHAPE_RGB, SIZES, Background, Colour, Kind, Scene, Shape, Size
from tools.tiny_model.style import outline_rgb, shows_style, styled_rows

GROUND = Background("plain", "cyan", "cyan")


def styled(*scenes: Scene) -> torch.Tensor:
    return styled_rows(scene_rows(scenes))


def levels(picture: torch.Tensor, x: int, y: int) -> tuple[int, ...]:
    return tuple((picture[:, y, x] * 255).round().int().tolist())


def edit_to(*shapes: Shape) -> Edit:
    return Edit("add", "Add it", "en", Scene(GROUND), Scene(GROUND, shapes))


def sampled_edits() -> list[Edit]:
    rng = Random(0)
    return [sample_edit(rng, task) for task in TASKS for _ in range(2)]


@pytest.mark.parametrize("colour", COLOURS)
def test_an_outline_is_dark_but_on_a_dark_shape(colour: Colour) -> None:
    picture = styled(Scene(GROUND, (Shape("square", colour, "large", "center"),)))[0]
    # The square's left edge is at 128 - 0.86 * 36 = 97.04, so the outline reaches to 101.04.
    expected = (250, 250, 250) if colour == "black" else (15, 15, 15)
    assert [levels(picture, x, 128) for x in (98, 99, 100)] == [expected] * 3
    assert levels(picture, 102, 128) == levels(picture, 128, 128) == SHAPE_RGB[colour]
    assert levels(picture, 96, 128) == levels(styled(Scene(GROUND))[0], 96, 128)


def test_an_outline_is_smooth_on_both_sides() -> None:
    picture = styled(Scene(GROUND, (Shape("square", "white", "large", "center"),)))[0, 0]
    outer, inner = float(picture[128, 97]), float(picture[128, 101])
    assert outer == pytest.approx(0.96 * 15 / 255 + 0.04 * 170 / 255, abs=0.01)
    assert inner == pytest.approx(0.04 * 15 / 255 + 0.96, abs=0.01)


def test_a_ring_has_an_outline_on_both_its_edges() -> None:
    picture = styled(Scene(GROUND, (Shape("ring", "red", "large", "center"),)))[0]
    # It reaches from 0.48 to 1 radius, that is 17 to 36 pixels right of the centre.
    assert levels(picture, 128 + 19, 128) == levels(picture, 128 + 33, 128) == (15, 15, 15)
    assert levels(picture, 128 + 26, 128) == SHAPE_RGB["red"]


def test_outlining_leaves_the_silhouette_and_scenes_without_shapes() -> None:
    rng_scene = Scene(GROUND, (Shape("star", "red", "medium", "left"), Shape("heart", "blue", "large", "right")))
    plain, outlined = render_scenes([rng_scene])[0], styled(rng_scene)[0]
    ground = render_scenes([Scene(GROUND)])[0]
    assert torch.equal((plain != ground).any(0), (outlined != ground).any(0))
    assert torch.equal(styled(Scene(GROUND))[0], ground)


def test_a_colour_is_dark_by_the_mean_of_its_channels() -> None:
    colours = torch.tensor([[178.0, 0.0, 0.0], [0.0, 0.0, 182.0]]) / 255
    assert (outline_rgb(colours) * 255).round().tolist() == [[250.0] * 3, [15.0] * 3]


def test_styled_pictures_show_the_style_and_plain_ones_do_not() -> None:
    edits = [edit for edit in sampled_edits() if edit.target.shapes]
    targets = [edit.target for edit in edits]
    assert shows_style(styled(*targets), edits) == [True] * len(edits)
    assert shows_style(render_scenes(targets), edits) == [False] * len(edits)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_style_is_told_on_each_kind_and_size_through_noise(kind: Kind, size: Size) -> None:
    shapes = (Shape(kind, "black", size, "top left"), Shape(kind, "orange", size, "right"))
    noise = 0.1 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    edits, scene = [edit_to(*shapes)], Scene(GROUND, shapes)
    assert shows_style(styled(scene) + noise, edits) == [True]
    assert shows_style(render_scenes([scene]) + noise, edits) == [False]


def test_one_shape_without_its_outline_breaks_the_style() -> None:
    shapes = (Shape("circle", "red", "large", "left"), Shape("circle", "blue", "large", "right"))
    half = styled(Scene(GROUND, shapes))[0]
    half[:, :, 128:] = render_scenes([Scene(GROUND, shapes)])[0, :, :, 128:]
    assert shows_style(half[None], [edit_to(*shapes)]) == [False]


def test_a_truth_without_shapes_has_no_style_to_show() -> None:
    one = Shape("circle", "red", "large", "left")
    outputs = styled(Scene(GROUND), Scene(GROUND, (one,)))
    assert shows_style(outputs, [edit_to(), edit_to(one)]) == [None, True]

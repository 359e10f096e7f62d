from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.tiny_model.edits import ALL_TASKS, Edit, sample_edit
from tools.tiny_model.phrasings import AnyTask
from tools.tiny_model.render import render_scenes
from tools.tiny_model.scenes import COLOURS, KINDS, SHAPE_RGB, SIZES, Background, Scene, Shape, free_places
from tools.tiny_model.scoring import THRESHOLDS, Score, score

GROUND = Background("horizontal stripes", "white", "yellow")
GROUND_OF_OTHERS = Background("plain", "white", "white")
KEPT = Shape("ring", "blue", "small", "bottom left")
BEFORE = Shape("circle", "red", "medium", "top")


def scored(scene: Scene, edit: Edit) -> Score:
    return score(render_scenes([scene]), [edit])[0]


def edit_of(task: AnyTask, before: Shape | None, after: Shape | None, ground: Background = GROUND) -> Edit:
    source = Scene(GROUND, (KEPT, before) if before else (KEPT,))
    return Edit(task, "", "en", source, Scene(ground, (KEPT, after) if after else (KEPT,)))


EDITS: dict[str, Edit] = {
    "recolour": edit_of("recolour", BEFORE, replace(BEFORE, colour="green")),
    "remove": edit_of("remove", BEFORE, None),
    "add": edit_of("add", None, BEFORE),
    "replace": edit_of("replace", BEFORE, replace(BEFORE, kind="star")),
    "move": edit_of("move", BEFORE, replace(BEFORE, place="right")),
    "grow": edit_of("grow", BEFORE, replace(BEFORE, size="large")),
    "shrink": edit_of("shrink", BEFORE, replace(BEFORE, size="small")),
    "background": edit_of("background", BEFORE, BEFORE, Background("checkerboard", "pink", "white")),
}


@given(seed=st.integers(0, 10**9), task=st.sampled_from(ALL_TASKS))
@settings(max_examples=40)
def test_the_truth_scores_perfectly_and_the_source_fails(seed: int, task: AnyTask) -> None:
    edit = sample_edit(Random(seed), task)
    perfect = scored(edit.target, edit)
    assert perfect.success
    assert perfect.colour_error == perfect.tile_error == 0.0
    assert perfect.overlap in (None, 1.0) and perfect.preserved_psnr in (None, 100.0)
    assert perfect.psnr == 100.0 and perfect.ssim == pytest.approx(1.0, abs=1e-4)
    unchanged = scored(edit.source, edit)
    assert not unchanged.success
    assert unchanged.colour_error == pytest.approx(unchanged.source_error)


@given(seed=st.integers(0, 10**9), task=st.sampled_from(ALL_TASKS))
@settings(max_examples=30)
def test_the_noise_of_a_good_decoder_does_not_fail_an_edit(seed: int, task: AnyTask) -> None:
    edit = sample_edit(Random(seed), task)
    truth = render_scenes([edit.target])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed)) * 10 ** (-36 / 20)
    assert score(truth + noise, [edit])[0].success


@given(seed=st.integers(0, 10**9), task=st.sampled_from(["recolour", "add", "replace", "move"]))
@settings(max_examples=40)
def test_a_wrong_colour_place_kind_or_size_fails(seed: int, task: AnyTask) -> None:
    rng = Random(seed)
    edit = sample_edit(rng, task)
    right = next(shape for shape in edit.target.shapes if shape not in edit.source.shapes)
    taken = edit.target.background.colours | {right.colour}
    wrong = {
        "colour": replace(right, colour=rng.choice([colour for colour in COLOURS if colour not in taken])),
        "place": replace(right, place=rng.choice(free_places(edit.target))),
        "kind": replace(right, kind=rng.choice([kind for kind in KINDS if kind != right.kind])),
        "size": replace(right, size=rng.choice([size for size in SIZES if size != right.size])),
    }
    for name, shape in wrong.items():
        shapes = tuple(shape if other == right else other for other in edit.target.shapes)
        assert not scored(replace(edit.target, shapes=shapes), edit).success, name


@pytest.mark.parametrize("task", EDITS)
def test_damage_to_another_shape_fails(task: str) -> None:
    edit = EDITS[task]
    assert scored(edit.target, edit).success
    for damaged in (replace(KEPT, colour="purple"), replace(KEPT, kind="circle"), replace(KEPT, place="left")):
        shapes = tuple(damaged if shape == KEPT else shape for shape in edit.target.shapes)
        result = scored(replace(edit.target, shapes=shapes), edit)
        assert not result.success


def test_a_shape_of_a_colour_most_like_its_own_is_noticed() -> None:
    small = Shape("circle", "orange", "small", "bottom right")
    source = Scene(GROUND_OF_OTHERS, (small, BEFORE))
    edit = Edit("remove", "", "en", source, Scene(GROUND_OF_OTHERS, (small,)))
    result = scored(Scene(GROUND_OF_OTHERS, (replace(small, colour="yellow"),)), edit)
    assert not result.success
    assert result.shape_error == pytest.approx(30.0, abs=0.1)


def test_a_new_kind_in_a_wrong_colour_is_noticed_where_old_and_new_overlap() -> None:
    ring = Shape("ring", "blue", "medium", "right")
    ground = Background("diagonal stripes", "green", "red")
    edit = Edit("replace", "", "en", Scene(ground, (ring,)), Scene(ground, (replace(ring, kind="star"),)))
    result = scored(Scene(ground, (replace(ring, kind="star", colour="cyan"),)), edit)
    assert not result.success
    assert result.shape_error is not None and result.shape_error > 40


@given(seed=st.integers(0, 10**9), task=st.sampled_from(ALL_TASKS))
@settings(max_examples=40)
def test_another_colour_on_any_shape_fails(seed: int, task: AnyTask) -> None:
    rng = Random(seed)
    edit = sample_edit(rng, task)
    for shape in edit.target.shapes:
        taken = edit.target.background.colours | {shape.colour}
        other = replace(shape, colour=rng.choice([colour for colour in COLOURS if colour not in taken]))
        shapes = tuple(other if kept == shape else kept for kept in edit.target.shapes)
        assert not scored(replace(edit.target, shapes=shapes), edit).success


def test_the_limit_within_a_shape_is_half_the_distance_of_the_most_alike_colours() -> None:
    pairs = combinations(SHAPE_RGB.values(), 2)
    nearest = min(sum(abs(x - y) for x, y in zip(first, second, strict=True)) / 3 for first, second in pairs)
    assert all(limits.shape_error == pytest.approx(nearest / 2) for limits in THRESHOLDS.values())


@pytest.mark.parametrize("task", EDITS)
def test_a_half_done_edit_fails(task: str) -> None:
    edit = EDITS[task]
    halfway = (render_scenes([edit.source]) + render_scenes([edit.target])) / 2
    result = score(halfway, [edit])[0]
    assert not result.success
    assert result.colour_error == pytest.approx(result.source_error / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("spoil", "task"),
    [
        (lambda picture: picture.flip(3), "move"),
        (lambda picture: picture.roll(4, dims=3), "add"),
        (torch.zeros_like, "background"),
        (lambda picture: picture * 0.8, "recolour"),
    ],
    ids=["mirrored", "shifted-by-4-pixels", "black", "darkened"],
)
def test_a_spoilt_picture_fails(spoil: Callable[[torch.Tensor], torch.Tensor], task: str) -> None:
    edit = EDITS[task]
    assert not score(spoil(render_scenes([edit.target])), [edit])[0].success


def test_overlap_is_the_share_of_common_area() -> None:
    grown = scored(EDITS["grow"].source, EDITS["grow"])
    assert grown.overlap == pytest.approx((26 / 36) ** 2, abs=0.03)
    assert scored(EDITS["move"].source, EDITS["move"]).overlap == 0.0
    assert scored(EDITS["remove"].source, EDITS["remove"]).overlap == 0.0


def test_what_there_is_not_is_none() -> None:
    source = Scene(Background("plain", "red", "red"))
    edit = Edit("background", "", "en", source, Scene(Background("plain", "blue", "blue")))
    result = scored(edit.target, edit)
    assert result.success and result.overlap is None and result.preserved_psnr is None
    assert result.shape_error is None


def test_scores_come_in_the_order_of_the_edits_in_any_number() -> None:
    edits = list(EDITS.values()) * 3
    outputs = render_scenes([edit.target if index % 3 else edit.source for index, edit in enumerate(edits)])
    scores = score(outputs, edits)
    assert [result.success for result in scores] == [index % 3 != 0 for index in range(len(edits))]
    assert score(outputs[:0], []) == []


def test_outputs_of_another_number_or_size_are_refused() -> None:
    edit = EDITS["add"]
    with pytest.raises(ValueError, match="2 edits need"):
        score(render_scenes([edit.target]), [edit, edit])
    with pytest.raises(ValueError, match="128"):
        score(torch.zeros(1, 3, 128, 128), [edit])

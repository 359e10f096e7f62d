"""Recipes: what they stand for, and what is said of each mistake in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qied_client.errors import InvalidRequest
from qied_client.options import edit_request
from qied_client.options.redraws import given_redraws
from qied_client.recipes import read_recipe, recipe_named, require_stages, shipped_recipes
from qied_client.recipes.recipe import recipe_of
from qied_client.recipes.stages import STAGES

POSTER: dict[str, Any] = {
    "stage": [
        {"do": "mask", "mode": "white", "required": True},
        {"do": "edit", "steps": 4, "true_cfg_scale": 1.0, "loras": {"lightning": 1.0}},
        {"do": "save", "formats": ["webp", "png"], "quality": 80},
    ]
}


def test_the_stages_become_the_options_of_one_edit() -> None:
    recipe = recipe_of(POSTER, "poster", "poster")
    assert recipe.kinds == ("mask", "edit", "save")
    assert recipe.options() == {"steps": 4, "true_cfg_scale": 1.0, "loras": {"lightning": 1.0}, "mask_mode": "white"}
    assert recipe.output() == {"output_format": "webp", "output_quality": 80}
    assert recipe.needs_mask
    edit_request("x", 1, {**recipe.options(), **recipe.output()})


def test_passes_and_upscaling_are_options_of_the_same_edit() -> None:
    redraw = {"box": [0, 0, 64, 32], "strength": 0.4, "feather": 4, "scale": 2.0}
    stages = [{"do": "edit"}, {"do": "redraw", **redraw}, {"do": "refine", "strength": 0.3}, {"do": "upscale"}]
    options = recipe_of({"stage": stages}, "r", "r").options()
    assert options == {"redraw": [redraw], "refine": 0.3, "upscale": "auto"}
    assert edit_request("x", 1, options).redraw[0].box == (0, 0, 64, 32)
    for given, wanted in (({"factor": 2}, "2x"), ({"model": "4x-sharp"}, "4x-sharp")):
        stages = [{"do": "edit"}, {"do": "upscale", **given}]
        assert recipe_of({"stage": stages}, "r", "r").options() == {"upscale": wanted}


@pytest.mark.parametrize("recipe", shipped_recipes(), ids=lambda recipe: recipe.name)
def test_a_shipped_recipe_is_right(recipe: Any) -> None:
    require_stages(recipe, tuple(STAGES))
    assert recipe.about.endswith(".")
    edit_request("x", 1, {**recipe.options(), **recipe.output()})
    assert recipe_named(recipe.name) == recipe


@pytest.mark.parametrize(
    ("own", "given", "text"), [("", "x", "x"), ("own", "", "own"), ("own", "x", "x"), ("a {prompt}!", "x", "a x!")]
)
def test_a_prompt_is_the_recipes_or_the_users_or_both(own: str, given: str, text: str) -> None:
    stage = {"do": "edit", **({"prompt": own} if own else {})}
    assert recipe_of({"stage": [stage]}, "r", "r").prompt_for(given) == text


@pytest.mark.parametrize("own", ["", "a {prompt}!"])
def test_a_recipe_without_a_prompt_asks_for_one(own: str) -> None:
    stage = {"do": "edit", **({"prompt": own} if own else {})}
    with pytest.raises(InvalidRequest, match="needs a prompt"):
        recipe_of({"stage": [stage]}, "r", "r").prompt_for("")


def edit(**keys: Any) -> dict[str, Any]:
    return {"stage": [{"do": "edit", **keys}]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "it is not a table."),
        ({}, "it has no stages."),
        ({"stages": []}, "a recipe has no 'stages'. Did you mean 'stage'?"),
        ({"stage": [{"do": "edti"}]}, "stage 1: there is no stage 'edti'. Did you mean 'edit'?"),
        ({"stage": [{}]}, "stage 1: it does not say what it does."),
        ({"stage": ["edit"]}, "stage 1: it is not a table."),
        (edit(step=4), "stage 1: a stage 'edit' has no 'step'. Did you mean 'steps'?"),
        (edit(steps="4"), "stage 1: steps must be a whole number from 1 to 200, not '4'."),
        (edit(steps=True), "must be a whole number"),
        (edit(true_cfg_scale=0), "must be a number from 1 to 20"),
        (edit(loras={"a": "b"}), "loras must be a list of names, or a table"),
        ({"stage": [{"do": "save"}]}, "it has no stage 'edit'."),
        ({"stage": [{"do": "save"}, {"do": "edit"}]}, "'edit' cannot come after 'save'."),
        ({"stage": [{"do": "edit"}, {"do": "edit"}]}, "it has two stages 'edit'."),
        (
            {"stage": [{"do": "edit"}, {"do": "save", "formats": ["gif"]}]},
            "formats must be a list of png, webp and jpeg",
        ),
        ({"stage": [{"do": "edit"}, {"do": "redraw", "strength": 2}]}, "strength must be a number from 0.01 to 1"),
        ({"stage": [{"do": "edit"}, {"do": "redraw", "strength": 0}]}, "stage 2: strength must be a number from 0.01"),
        ({"stage": [{"do": "edit"}, {"do": "save", "formats": ["webp", "webp"]}]}, "png, webp and jpeg, each once"),
        ({"stage": [{"do": "edit", "width": 64}]}, "mine: width and height: one is missing."),
        ({"stage": [{"do": "edit", "size": "large"}]}, "mine: size: 'large' is not a size."),
        ({"stage": [{"do": "edit"}, {"do": "upscale", "faktor": 4}]}, "Did you mean 'factor'?"),
        ({"stage": [{"do": "edit"}, {"do": "upscale", "factor": 4, "model": "a"}]}, "Leave one of them out."),
        ({"stage": [{"do": "edit"}, *[{"do": "redraw"}] * 3, {"do": "refine"}]}, "4 stages of redraw and refine"),
        ({"stage": [{"do": "edit"}, {"do": "redraw", "box": [1, 2, 3]}]}, "box must be a list of left"),
    ],
)
def test_a_mistake_is_told_with_its_stage_and_the_nearest_name(value: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        recipe_of(value, "mine", "mine")
    assert says in f"{refused.value.message} {refused.value.remedy}"


def test_a_stage_that_is_not_there_is_refused_by_its_name() -> None:
    recipe = recipe_of({"stage": [{"do": "mask"}, {"do": "edit"}]}, "mine", "mine")
    with pytest.raises(InvalidRequest, match="stage 'mask', which this daemon does not have"):
        require_stages(recipe, ("edit", "save"))
    with pytest.raises(InvalidRequest, match="stage 'upscale'") as refused:
        require_stages(recipe_named("poster"), ("edit", "refine", "save"))
    assert "Put an upscaling model" in refused.value.remedy


def test_a_recipe_is_a_toml_or_a_json_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(POSTER))
    (tmp_path / "b.toml").write_text('title = "B"\n[[stage]]\ndo = "edit"\nsteps = 4\n')
    assert recipe_named(str(tmp_path / "a.json")).kinds == ("mask", "edit", "save")
    assert read_recipe(tmp_path / "b.toml").title == "B"
    (tmp_path / "c.toml").write_bytes(b"\xff")
    for name, says in (("c.toml", "Correct the file"), ("d.toml", "Check the name")):
        with pytest.raises(InvalidRequest) as refused:
            read_recipe(tmp_path / name)
        assert says in refused.value.remedy
    with pytest.raises(InvalidRequest) as refused:
        recipe_named("previw")
    assert "Did you mean 'preview'?" in refused.value.remedy


def test_a_redraw_takes_the_mask_of_its_row() -> None:
    stages = [{"do": "edit"}, {"do": "redraw", "mask": True, "strength": 0.4}]
    recipe = recipe_of({"stage": stages}, "r", "r")
    assert recipe.needs_mask and recipe.options() == {"redraw": [{"mask": True, "strength": 0.4}]}
    with pytest.raises(InvalidRequest, match="mask must be true or false"):
        recipe_of({"stage": [{"do": "edit"}, {"do": "redraw", "mask": "m.png"}]}, "r", "r")
    (given,) = given_redraws(recipe.options()["redraw"])
    assert given.mask_of(b"row's", "redraw[0]") == b"row's"
    with pytest.raises(InvalidRequest, match="takes the edit's mask, and the edit has none"):
        given.mask_of(None, "redraw[0]")
    request = edit_request("x", 1, {**recipe.options(), "mask_mode": "opaque"})
    assert [each.mask_mode for each in request.redraw] == ["opaque"]
    plain, own = ({"mask": False}, {"mask": True, "mask_mode": "white"})
    request = edit_request("x", 1, {"redraw": [plain, own], "mask_mode": "opaque"})
    assert [each.mask_mode for each in request.redraw] == ["auto", "white"]

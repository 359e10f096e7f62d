"""Inputs that are set from outside: found by id, title, class or name, and refused where that is not one."""

from __future__ import annotations

from typing import Any

import pytest
from qied_client.errors import InvalidRequest
from qied_client.workflows import read_workflow, requests_of
from qied_client.workflows.overrides import with_settings

from tests.workflows.official import api_edit, edit_workflow, node
from tests.workflows.test_requests import find


def asked(document: dict[str, Any], **settings: Any) -> Any:
    return requests_of(with_settings(read_workflow(document), settings), find)[0]


def refusal(document: dict[str, Any], **settings: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        asked(document, **settings)
    return caught.value


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"170:169.seed": "7"}, "seed", 7),
        ({"170:169.seed": 7}, "seed", 7),
        ({"seed": "7"}, "seed", 7),
        ({"KSampler.seed": "7"}, "seed", 7),
        ({"170.seed": "7"}, "seed", 7),
        ({"170.positive_prompt": "night"}, "prompt", "night"),
        ({"positive_prompt": "12"}, "prompt", "12"),
        ({"prompt": "night"}, "prompt", "night"),  # the name of the subgraph's own input
        ({"TextEncodeQwenImageEditPlus (Positive).prompt": "night"}, "prompt", "night"),
        ({"170.enable_turbo_mode": "true"}, "true_cfg_scale", 1),
        ({"steps": "8"}, "steps", 8),
        ({"cfg": "2.5"}, "true_cfg_scale", 2.5),
        ({"41.image": "other.png"}, "names", ("other.png", "fur.png")),
        ({"filename_prefix": "x"}, "filename_prefix", "x"),
    ],
)
def test_an_input_is_set(settings: dict[str, Any], field: str, value: object) -> None:
    assert getattr(asked(edit_workflow(), **settings), field) == value


@pytest.mark.parametrize(
    ("settings", "message", "remedy"),
    [
        ({"image": "x"}, "several nodes", "41.image (LoadImage), 83.image (LoadImage)"),
        ({"999.seed": "1"}, "there is no node '999'", "There are:"),
        ({"170:169.sed": "1"}, "has no input 'sed'", "It has: seed"),
        ({"sed": "1"}, "no node has such an input", "seed"),
        ({"seed": "x"}, "'x' is not a number", "Write a number."),
        ({"168.value": "maybe"}, "there is no node", "There are"),
        ({"170:168.value": "maybe"}, "neither true nor false", "Write true or false."),
    ],
)
def test_a_name_that_is_no_input_is_refused(settings: dict[str, Any], message: str, remedy: str) -> None:
    error = refusal(edit_workflow(), **settings)
    assert message in error.message
    assert remedy in error.remedy


def test_an_input_of_two_nodes_is_to_be_named_by_its_node() -> None:
    graph = api_edit(n12={"negative": ["7", 0]}, n13={"samples": ["20", 0]}, n20=api_edit()["12"])
    graph["20"]["inputs"].update(positive=["8", 0], latent_image=["12", 0], denoise=0.5)
    error = refusal(graph, prompt="x")
    assert "7.prompt (TextEncodeQwenImageEditPlus), 8.prompt (TextEncodeQwenImageEditPlus)" in error.remedy


def test_of_two_prompts_the_positive_one_is_meant() -> None:
    request = asked(api_edit(), prompt="night")
    assert (request.prompt, request.negative_prompt) == ("night", "blurry")
    zeroed = api_edit(
        n20=node("FluxKontextMultiReferenceLatentMethod", conditioning=["7", 0]), n12={"positive": ["20", 0]}
    )
    assert asked(zeroed, prompt="night").prompt == "night"
    assert asked(api_edit(), **{"8.prompt": "dull"}).negative_prompt == "dull"


def test_a_missing_input_of_a_known_class_can_be_set() -> None:
    graph = api_edit(n12={"denoise": None})
    assert asked(graph, **{"12.denoise": "0.5"}).refine == 0.5


def test_both_instances_of_a_subgraph_can_be_set_apart() -> None:
    graph = api_edit(n20=node("KSampler", **api_edit()["12"]["inputs"]), n13={"samples": ["12", 0]})
    assert asked(graph, **{"12.seed": 3}).seed == 3
    assert asked(graph, seed=4).seed == 4, "one that nothing is saved of does not count"

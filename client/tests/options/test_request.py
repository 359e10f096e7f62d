"""What is taken of a prompt and its options, and what each refusal says."""

from __future__ import annotations

import numpy as np
import pytest
from qied_client.errors import InvalidRequest, UnknownOption
from qied_client.options import edit_request
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, LoraChoice


def refused(**options: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        edit_request("x", 1, options)
    return caught.value


def test_defaults_are_those_of_the_protocol_but_for_the_seed() -> None:
    assert edit_request("x", 7, {}) == EditRequest((), "x", 7)
    assert edit_request("x", 7, {"seed": None, "loras": None}) == EditRequest((), "x", 7)
    assert edit_request("x", 7, {"seed": 0}).seed == 0


def test_numbers_of_numpy_are_numbers() -> None:
    request = edit_request(
        "x",
        1,
        {"seed": np.int64(5), "steps": np.uint8(4), "true_cfg_scale": np.float32(2.5), "loras": ("a", np.float64(0.5))},
    )
    assert (request.seed, request.steps, request.true_cfg_scale) == (5, 4, 2.5)
    assert {type(request.seed), type(request.steps)} == {int}
    assert request.loras == (LoraChoice("a", 0.5),)
    assert request.payload_hash()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "forty", "must be an integer, not 'forty'. Give an integer from 1 to 200."),
        ("steps", 20.0, "not 20.0. Give an integer from 1 to 200."),
        ("steps", True, "not True"),
        ("seed", -1, f"0 to {limits.SEED}"),
        ("true_cfg_scale", "4", "not '4'. Give a number from 1 to 20."),
        ("true_cfg_scale", float("nan"), "a number from 1 to 20"),
        ("width", 10_000, "Give pixels, 1 to 8192."),
        ("height", 0, "pixels, 1 to 8192"),
        ("preset", 3, "a name of at most 128 characters"),
        ("negative_prompt", b"x", "text of at most 3000 bytes"),
        ("on_cap", "shrink", "'refuse' or 'fit'"),
        ("output_format", "gif", "'png', 'webp' or 'jpeg'"),
        ("previews", 1, "True or False"),
        ("previews", None, "True or False"),
        ("priority", 11, "an integer from -10 to 10"),
        ("loras", 3, "3 is not a LoRA"),
        ("loras", {"a"}, "a list of these"),
        ("loras", {"a": "strong"}, "{'a': 'strong'} is not a LoRA"),
        ("loras", {"a": True}, "strengths from -4 to 4"),
        ("loras", ["a", 0.5], r"0.5 is not a LoRA"),
        ("loras", {"a": 5}, "from -4 to 4, not 5"),
        ("loras", ["../a"], "folder/style"),
        ("loras", ["a"] * 9, "0 to 8 items"),
    ],
    ids=repr,
)
def test_a_wrong_value_is_refused_with_what_is_allowed(option: str, value: object, words: str) -> None:
    given = {option: value} if option != "height" else {"width": 64, "height": value}
    error = refused(**given)
    assert option in error.message
    assert words in str(error)
    assert str(error.details["field"]).startswith(option)


def test_a_wrong_prompt_is_refused_with_what_is_allowed() -> None:
    for prompt in (5, "", "x" * 8001):
        with pytest.raises(InvalidRequest, match="that says what to change") as caught:
            edit_request(prompt, 1, {})  # type: ignore[arg-type]
        assert caught.value.details["field"] == "prompt"


def test_a_width_alone_is_refused() -> None:
    assert "Give both" in refused(width=64).remedy


def test_an_unknown_option_is_refused_before_wrong_values() -> None:
    error = refused(steps="forty", sede=3)
    assert isinstance(error, UnknownOption)
    assert error.details == {"field": "sede", "nearest": "seed"}


@pytest.mark.parametrize("size", ["1280x720", "1280X720", "1280*720", " 1280x720 "])
def test_a_size_may_be_one_option(size: str) -> None:
    request = edit_request("x", 1, {"size": size})
    assert (request.width, request.height, request.size) == (1280, 720, "default")


def test_a_size_may_be_the_pictures_own() -> None:
    request = edit_request("x", 1, {"size": "same"})
    assert (request.width, request.height, request.size) == (None, None, "same")


@pytest.mark.parametrize(
    "size", ["", "big", "1280", "1280x", "x720", "12x3x4", "-1x5", "1\u0663x5", (1024, 768), 3, None]
)
def test_what_is_no_size_is_refused_with_the_ways_to_give_one(size: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        edit_request("x", 1, {"size": size})
    assert "'same', 'kontext', or both sides in pixels such as '1024x768'" in caught.value.remedy
    assert caught.value.message == f"size: {str(size)!r} is not a size."


@pytest.mark.parametrize("other", [{"width": 640}, {"height": 640}, {"width": 640, "height": 640}])
@pytest.mark.parametrize("size", ["640x480", "same"])
def test_two_ways_to_say_a_size_are_not_taken_together(size: str, other: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        edit_request("x", 1, {"size": size, **other})

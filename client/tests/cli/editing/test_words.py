import inspect
import re
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
import typer
from qied_client.cli.editing.command import edit
from qied_client.cli.editing.redraw import redraw
from qied_client.cli.editing.words import FLAGS, in_flags, phrased
from qied_client.errors import AboveCap, InvalidRequest, JobFailed, PrecisionUnavailable
from qied_client.options.request import edit_request
from qied_client.protocol.request import EditRequest

OF_THE_LIBRARY = {"previews", "rewrite_prompt", "task"}
"""What a request has and the command line does not offer."""


def request_of(field: str, value: Any) -> EditRequest:
    """A request with one value of the caller's."""
    if field == "prompt":
        return edit_request(value, 1, {})
    return edit_request("x", 1, {field: value})


def options() -> set[str]:
    """Every flag of ``edit`` and ``redraw``, as typer makes it of the parameters."""
    found = set()
    hints = [*get_type_hints(edit, include_extras=True).items(), *get_type_hints(redraw, include_extras=True).items()]
    for name, hint in hints:
        for info in get_args(hint)[1:]:
            if isinstance(info, typer.models.OptionInfo):
                found |= set(info.param_decls or [f"--{name.replace('_', '-')}"])
    return found


def test_every_field_of_a_request_has_its_flag_and_the_flag_exists() -> None:
    assert len(options()) > 15
    assert {field.name for field in fields(EditRequest)} - OF_THE_LIBRARY <= set(FLAGS)
    assert {flag for flag in FLAGS.values() if flag.startswith("-")} <= options()
    assert "words" in inspect.signature(edit).parameters, "IMAGE and PROMPT"


WRONG: dict[str, tuple[Any, str]] = {
    "seed": (-1, "--seed: must be"),
    "negative_prompt": ("\0", "--negative: must not contain NUL."),
    "steps": (0, "--steps: must be 1 to 200, not 0."),
    "true_cfg_scale": (0.5, "--cfg: must be a number from 1 to 20, not 0.5."),
    "width": (0, "--width: must be 1 to 8192, not 0."),
    "height": (8193, "--height: must be 1 to 8192, not 8193."),
    "preset": ("?", "--preset: must be"),
    "precision": ("?", "--precision: must be"),
    "loras": (["../x"], "--lora: must be a name such as"),
    "on_cap": ("?", "--fit: must be"),
    "mask_mode": ("?", "--mask-mode: must be"),
    "size": ("?", "--size: '?' is not a size."),
    "background": ("?", "--background: must be"),
    "upscale": ("\0", "--upscale: must not contain NUL."),
    "output_format": ("?", "--out: must be"),
    "output_quality": (0, "--quality: must be 1 to 100, not 0."),
    "priority": (11, "--priority: must be -10 to 10, not 11."),
    "prompt": ("", "PROMPT: must not be empty."),
    "redraw": ({"strength": 0.0}, "--redraw: must be a number from 0.01 to 1, not 0."),
    "refine": (1.5, "--refine: must be a number from 0 to 1, not 1.5."),
    "align": ("?", "--no-align: must be"),
    "compat": ("comfyui,shift=0", "--compat: must be a number from 0.01 to 100, not 0."),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_is_told_by_its_flag(field: str) -> None:
    value, said = WRONG[field]
    with pytest.raises(InvalidRequest) as refused:
        request_of(field, value)
    told = in_flags(refused.value)
    assert told.message.startswith(said)
    assert not re.search(r"this field|[a-z]_[a-z]|tuple|dict|True", str(told))
    assert told.details == refused.value.details
    assert type(told) is type(refused.value)


def test_all_fields_are_tried() -> None:
    pictures, flags = {"images", "mask", "canvas"}, {"preemptible", "rewrite_prompt"}
    assert set(WRONG) | pictures | flags | OF_THE_LIBRARY == {field.name for field in fields(EditRequest)}


def test_a_missing_side_names_both_flags() -> None:
    with pytest.raises(InvalidRequest) as refused:
        edit_request("x", 1, {"width": 64})
    assert in_flags(refused.value).message == "--width and --height: one is missing."


def test_remedies_of_the_daemon_name_flags() -> None:
    cap = AboveCap("x", "Ask for 64 x 64, or let the daemon fit it (on_cap='fit').", width=64)
    assert in_flags(cap).remedy == "Ask for 64 x 64, or let the daemon fit it with --fit."
    assert in_flags(cap).details == {"width": 64}
    other = PrecisionUnavailable("x", "It runs fp8; leave the precision out.", field="precision")
    assert in_flags(other).remedy == "It runs fp8; leave --precision out."


def test_other_errors_stay_as_they_are() -> None:
    error = JobFailed("width: of the card", "Correct this field.")
    assert in_flags(error) is error


def test_a_warning_of_the_daemon_names_options_of_the_command_line() -> None:
    said = (
        "The prompt was used as it is, since the rewriter gave no text. Try again later, or leave rewrite_prompt out."
    )
    assert phrased(said).endswith("or leave --rewrite-prompt out.")

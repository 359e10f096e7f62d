"""What help and signatures show of the options."""

from __future__ import annotations

import inspect
import pydoc
import re
from dataclasses import fields
from typing import Any, get_type_hints

from qied_client.options import OPTIONS, EditOptions, shows_options
from qied_client.protocol.request import EditRequest


def test_the_options_are_the_fields_of_a_request() -> None:
    of_request = {field.name for field in fields(EditRequest)} - {"images", "prompt"}
    assert set(EditOptions.__annotations__) == set(OPTIONS) == of_request
    assert set(get_type_hints(EditOptions)) == of_request


def test_help_shows_type_unit_default_and_meaning_of_every_option() -> None:
    @shows_options
    def edit(picture: str, *, timeout: float | None = None, **options: Any) -> None:
        """Edit it."""

    text = pydoc.plain(pydoc.render_doc(edit))
    assert "timeout: 'float | None' = None, negative_prompt: 'str | None' = None" in text
    entries = re.split(r"\n    (?=\w+ : )", text)[1:]
    assert [entry.split(" : ")[0] for entry in entries] == list(OPTIONS)
    for entry, (name, option) in zip(entries, OPTIONS.items(), strict=True):
        words = " ".join(entry.split())
        assert str(EditOptions.__annotations__[name].__forward_arg__) in words
        assert all(part in words for part in (option.values, option.meaning, option.without, "default "))
    assert "pixels" in next(entry for entry in entries if entry.startswith("width"))


def test_the_signature_has_every_option_with_its_default() -> None:
    @shows_options
    def edit(picture: str, *, seed: int = 3, **options: Any) -> None: ...

    parameters = inspect.signature(edit).parameters
    assert list(parameters) == ["picture", "seed", *(name for name in OPTIONS if name != "seed")]
    assert parameters["seed"].default == 3
    for field in fields(EditRequest):
        if field.name in parameters and field.name not in ("seed", "mask"):
            assert parameters[field.name].default == field.default
    assert edit.__doc__ is None

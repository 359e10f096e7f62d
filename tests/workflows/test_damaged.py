"""Files that somebody has damaged, or made up: refused in words, whatever is in them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qied_client.errors import QiedError
from qied_client.workflows import Served, examine, read_workflow
from qied_client.workflows.overrides import with_settings

from tests.workflows.official import api_edit, edit_workflow, node
from tests.workflows.test_packages import everywhere, resized
from tests.workflows.test_requests import custom_sampling, find, own_nodes

DOCUMENTS = (
    *(edit_workflow(), edit_workflow(version=1, values=["x"]), api_edit(), custom_sampling(), own_nodes()),
    everywhere(saved=True),
    resized("ImageResizeKJv2", "image", width=512, height=512, keep_proportion="crop"),
    resized("ResizeImageMaskNode", "input", **{"resize_type": "scale total pixels", "resize_type.megapixels": 1.0}),
)
SERVED = Served("qwen-image-edit-2511", "2511", "fp8", ("style",), 3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["euler", "12", "*", "MODEL", "../../x.png", "{a|b}", 2, 4]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything within a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += places(each, (*path, key))
    return found


PLACES = [places(document) for document in DOCUMENTS]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_run_but_never_a_crash(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(DOCUMENTS) - 1))
    document = copy.deepcopy(DOCUMENTS[number])
    for _ in range(data.draw(st.integers(1, 4))):
        *way, last = data.draw(st.sampled_from(PLACES[number]))
        target: Any = document
        try:
            for key in way:
                target = target[key]
            if data.draw(st.booleans()):
                target[last] = data.draw(JSON)
            else:
                del target[last]
        except (KeyError, IndexError, TypeError):
            continue
    try:
        workflow = read_workflow(json.dumps(document))
        examined = examine(workflow, find, SERVED)
        for request in examined.requests:
            json.dumps(request.facts())
        with_settings(workflow, {"seed": "3"})
    except QiedError as error:
        assert error.message and error.remedy
    else:
        assert all(each.message and each.remedy for each in examined.problems)
        assert examined.requests or examined.problems


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e308, -1, -99, 0])
@pytest.mark.parametrize(
    ("document", "where"),
    [
        (api_edit(n5=node("ImageScaleToTotalPixels", image=["4", 0], megapixels=1.0)), ("5", "inputs", "megapixels")),
        (
            api_edit(n5=node("ImageScaleToMaxDimension", image=["4", 0], largest_size=9)),
            ("5", "inputs", "largest_size"),
        ),
        (api_edit(n5=node("ImageScaleBy", image=["4", 0], scale_by=1.0)), ("5", "inputs", "scale_by")),
        (resized("ImageResizeKJv2", "image", width=64, height=64), ("5", "inputs", "width")),
        (api_edit(), ("13", "inputs", "samples", 1)),
        (edit_workflow(), ("nodes", 0, "mode")),
        (edit_workflow(), ("definitions", "subgraphs", 0, "links", 0, "target_slot")),
        (edit_workflow(), ("definitions", "subgraphs", 0, "links", 0, "origin_slot")),
    ],
)
def test_a_number_that_is_none_is_refused_in_words(number: float, document: Any, where: tuple[Any, ...]) -> None:
    document = copy.deepcopy(document)
    *way, last = where
    target: Any = document
    for key in way:
        target = target[key]
    target[last] = number
    try:
        examined = examine(read_workflow(json.dumps(document)), find)
    except QiedError as error:
        assert error.message
    else:
        assert all(each.message and each.remedy for each in examined.problems)

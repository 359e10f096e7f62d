"""Files that somebody has damaged, or made up: refused in words, whatever is in them."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qied_client.errors import PictureTooCostly, QiedError
from qied_client.workflows import Served, examine, read_workflow
from qied_client.workflows.files import MaskFile, Pictures
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


def scaled(**node: Any) -> dict[str, Any]:
    """The official graph of an edit, drawn over a scaled picture."""
    graph = copy.deepcopy(api_edit())
    graph["90"] = {"class_type": "LoadImage", "inputs": {"image": "cat.png"}}
    graph["91"] = {"class_type": node.pop("kind"), "inputs": {"image": ["90", 0], **node}}
    graph["92"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["91", 0], "vae": ["3", 0]}}
    sampler = next(each for each in graph.values() if each["class_type"] == "KSampler")
    sampler["inputs"] |= {"latent_image": ["92", 0], "denoise": 0.5}
    return graph


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "ImageScale", "width": 60_000, "height": 60_000},
        {"kind": "ImageScale", "width": 10**9, "height": 1},
        {"kind": "ImageScale", "width": -5, "height": 64},
        {"kind": "ImageScale", "width": -5, "height": 64, "crop": "center"},
        {"kind": "ImageScaleBy", "scale_by": 1e6},
        {"kind": "ImageScaleBy", "scale_by": 10**400},
        {"kind": "ImageScaleToTotalPixels", "megapixels": 1e6},
        {"kind": "ImageScaleToTotalPixels", "megapixels": -1},
        {"kind": "ImageScaleToMaxDimension", "largest_size": 10**7},
        {"kind": "ImageCrop", "x": 0, "y": 0, "width": -4, "height": 4},
        {"kind": "ImageCrop", "x": 0, "y": 0, "width": 0, "height": 0},
    ],
)
def test_a_size_that_no_picture_can_have_is_refused_before_anything_is_scaled(node: dict[str, Any]) -> None:
    (problem,) = examine(read_workflow(scaled(**node)), find, SERVED).problems
    assert problem.node_id == "91" and problem.remedy


@pytest.mark.parametrize("slot", [float("inf"), float("nan")])
def test_a_link_to_no_output_is_no_link(slot: float) -> None:
    graph = scaled(kind="ImageScale", width=64, height=64)
    graph["91"]["inputs"]["image"] = ["90", slot]
    assert examine(read_workflow(graph), find, SERVED).problems


@pytest.mark.parametrize("by", [10**6, -(10**6)])
def test_a_mask_grows_by_no_more_than_is_quickly_done(by: int) -> None:
    graph = scaled(kind="ImageScale", width=64, height=64)
    graph["93"] = {"class_type": "LoadImageMask", "inputs": {"image": "cat.png", "channel": "red"}}
    graph["92"]["class_type"] = "VAEEncodeForInpaint"
    graph["92"]["inputs"] |= {"mask": ["93", 0], "grow_mask_by": by}
    (problem,) = examine(read_workflow(graph), find, SERVED).problems
    assert problem.input == "grow_mask_by"
    with pytest.raises(PictureTooCostly):
        Pictures(lambda _: wide_mask()).mask(MaskFile("wide.png", "green", grown=256))


def wide_mask() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2400, 2000)).save(file, "PNG")
    return file.getvalue()


def test_a_text_that_is_joined_with_itself_over_and_over_ends() -> None:
    graph = scaled(kind="ImageScale", width=64, height=64)
    link: Any = "ab"
    for number in range(60):
        graph[f"t{number}"] = {"class_type": "StringConcatenate", "inputs": {"string_a": link, "string_b": link}}
        link = [f"t{number}", 0]
    encode = next(each for each in graph.values() if each["class_type"] == "TextEncodeQwenImageEditPlus")
    encode["inputs"]["prompt"] = link
    assert "characters" in examine(read_workflow(graph), find, SERVED).problems[0].message


def test_a_workflow_saves_no_more_pictures_than_one_can_wait_for() -> None:
    graph = copy.deepcopy(api_edit())
    save = next(each for each in graph.values() if each["class_type"] == "SaveImage")
    graph |= {f"s{number}": copy.deepcopy(save) for number in range(100)}
    (problem,) = examine(read_workflow(graph), find, SERVED).problems
    assert "101 nodes" in problem.message


def test_json_within_a_file_may_be_as_deep_as_it_likes() -> None:
    deep = "[" * 30_000
    workflow = read_workflow(api_edit())
    with pytest.raises(QiedError):
        with_settings(workflow, {"seed": deep})
    canvas = edit_workflow()
    for each in canvas["nodes"]:
        each["properties"] = {"proxyWidgets": deep}
    assert examine(read_workflow(canvas), find, SERVED).requests


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

"""A result of qied as the request that makes it again, from what it says of itself."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from qied_client.options import edit_request
from qied_client.picture_file.comfyui_graph import graph_of
from qied_client.picture_metadata import PictureMetadata
from qied_client.workflows import read_workflow, requests_of
from qied_client.workflows.remade import remade

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
MADE = PictureMetadata(
    prompt="make it night",
    negative_prompt="blurry",
    seed=7,
    steps=8,
    true_cfg_scale=4.0,
    width=1024,
    height=768,
    model="builtin",
    version="1.0",
    loras=(("style", 0.5),),
    precision="fp32",
    preset="draft",
    sources=(A, B),
)


def options(**changes: Any) -> dict[str, Any]:
    request = remade(replace(MADE, **changes), lambda blob: blob.encode())
    given = dict(request.options())
    edit_request(request.prompt, 0, given)  # no daemon refuses it for its form
    return {"images": request.images, **given}


def test_all_that_a_picture_says_is_asked_for() -> None:
    assert options() == {
        **{"images": (A.encode(), B.encode()), "negative_prompt": "blurry", "seed": 7, "steps": 8},
        **{"true_cfg_scale": 4.0, "width": 1024, "height": 768, "preset": "draft", "loras": [("style", 0.5)]},
        "precision": "fp32",
    }


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"size": "same"}, {"size": "same"}),
        ({"size": "kontext", "compat": "comfyui,shift=3"}, {"size": "kontext", "compat": "comfyui,shift=3"}),
        ({"size": "default"}, {}),
        ({"mask": C, "mask_mode": "transparent", "size": "default"}, {"mask": C.encode(), "mask_mode": "transparent"}),
        ({"upscale": "4x-x", "upscale_by": 4}, {"upscale": "4x-x", "width": 256, "height": 192}),
        ({"background": "opaque", "size": "default"}, {"background": "opaque"}),
        (
            {"canvas": D, "redraw": (f"10,20,30,40,strength=0.4,mask={C},mask_mode=white",)},
            {
                "canvas": D.encode(),
                "redraw": [{"box": (10, 20, 30, 40), "strength": 0.4, "mask": C.encode(), "mask_mode": "white"}],
            },
        ),
    ],
)
def test_what_else_a_picture_may_say(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    usual = ("images", "negative_prompt", "seed", "steps", "true_cfg_scale", "preset", "loras", "precision")
    assert {name: value for name, value in options(**changes).items() if name not in usual} == wanted


def test_an_upscaled_picture_is_only_upscaled() -> None:
    found = options(steps=0, upscale="2x", upscale_by=2, sources=(A,), loras=(), preset="", precision="")
    assert {name: found[name] for name in ("images", "task", "upscale")} == {
        **{"images": (A.encode(),), "task": "upscale", "upscale": "2x"}
    }
    assert not {"width", "steps", "true_cfg_scale"} & found.keys()


CHANGES: list[dict[str, Any]] = [
    {},
    {"size": "same"},
    {"mask": C, "mask_mode": "transparent", "size": "default"},
    {"upscale": "4x-x", "upscale_by": 4, "background": "opaque"},
    {"canvas": D, "redraw": (f"10,20,30,40,strength=0.4,padding=16,mask={C},mask_mode=white", "strength=0.7,steps=3")},
    {"steps": 0, "upscale": "2x", "upscale_by": 2, "sources": (A,), "loras": (), "preset": ""},
    {"drift": (1.0, 0.0, 1.0), "aligned": False, "size": "default"},
    {"compat": "comfyui,shift=3"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_the_graph_in_a_result_asks_for_the_same(changes: dict[str, Any]) -> None:
    """Both forms, as ComfyUI's API takes it and as its page saves it."""
    metadata = replace(MADE, precision="", **changes)

    def asked(request: Any) -> dict[str, Any]:
        given = {name: value for name, value in request.options().items() if value not in ("", True, False, "refuse")}
        if given.get("size") == "default" or given.get("background") == "auto":
            given = {name: value for name, value in given.items() if value not in ("default", "auto")}
        passes = [{"padding": None, "feather": 8, **each} for each in request.redraw]
        return {**given, "prompt": request.prompt, "images": request.images, "redraw": passes}

    wanted = asked(remade(metadata, picture))
    graph = graph_of(metadata)
    for form in (graph.for_api(), graph.for_page()):
        (request,) = requests_of(read_workflow(form), lambda name: picture(name.removesuffix(".png")))
        assert asked(request) == wanted


def picture(blob: str) -> bytes:
    """A picture of its own for each hash."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (int(blob[:2], 16), 0, 0)).save(file, "PNG")
    return file.getvalue()

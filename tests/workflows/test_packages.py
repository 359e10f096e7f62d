"""Nodes of packages that many workflows use, and of ComfyUI itself beyond the official files, by their formulas."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from qied_client.workflows import WorkflowRefused, WorkflowRequest, read_workflow, requests_of
from qied_client.workflows.canvas.graph import CanvasNode
from qied_client.workflows.canvas.widgets import widget_values

from tests.workflows.canvases import BYPASSED, Graph
from tests.workflows.official import api_edit, edit_workflow, node
from tests.workflows.test_requests import find


def run(document: dict[str, Any]) -> WorkflowRequest:
    (request,) = requests_of(read_workflow(document), find)
    return request


def refused(document: dict[str, Any]) -> str:
    with pytest.raises(WorkflowRefused) as caught:
        requests_of(read_workflow(document), find)
    return str(caught.value.problems[0])


def resized(class_type: str, source: str, **inputs: Any) -> dict[str, Any]:
    """An edit of a picture of 1920 x 1080 pixels, brought to the size of its result by this node."""
    return api_edit(n4={"image": "wide.png"}, n5=node(class_type, **{source: ["4", 0], **inputs}))


@pytest.mark.parametrize(
    ("kind", "inputs", "size", "image"),
    [
        ("scale dimensions", {"width": 640, "height": 640, "crop": "center"}, (640, 640), (640, 640)),
        ("scale dimensions", {"width": 960, "height": 0, "crop": "disabled"}, (960, 544), None),
        ("scale by multiplier", {"multiplier": 0.5}, (960, 544), None),
        ("scale longer dimension", {"longer_size": 1280}, (1280, 720), None),
        ("scale shorter dimension", {"shorter_size": 720}, (1280, 720), None),
        ("scale width", {"width": 1280}, (1280, 720), None),
        ("scale height", {"height": 720}, (1280, 720), None),
        ("scale total pixels", {"megapixels": 1.0}, (1360, 768), None),
        ("scale to multiple", {"multiple": 64}, (1920, 1024), (1920, 1024)),
    ],
)
def test_resize_image_mask_has_the_size_that_comfyui_gives(
    kind: str, inputs: dict[str, Any], size: tuple[int, int], image: tuple[int, int] | None
) -> None:
    more = {f"resize_type.{name}": value for name, value in inputs.items()}
    request = run(resized("ResizeImageMaskNode", "input", resize_type=kind, scale_method="area", **more))
    assert (request.width, request.height) == size
    if image is not None:
        assert Image.open(io.BytesIO(request.images[0])).size == image


@pytest.mark.parametrize(
    ("how", "width", "height", "size"),
    [
        ("stretch", 1024, 576, (1024, 576)),
        ("resize", 1024, 1024, (1024, 576)),
        ("resize", 0, 576, (1024, 576)),
        ("total_pixels", 1024, 576, (1024, 576)),
        ("crop", 512, 512, (512, 512)),
    ],
)
def test_kj_resizing_has_the_size_that_it_gives(how: str, width: int, height: int, size: tuple[int, int]) -> None:
    document = resized("ImageResizeKJv2", "image", width=width, height=height, keep_proportion=how, divisible_by=16)
    request = run(document)
    assert (request.width, request.height) == size
    document["6"] = node("EmptySD3LatentImage", width=["5", 1], height=["5", 2], batch_size=1)
    assert (run(document).width, run(document).height) == size


@pytest.mark.parametrize(("place", "red"), [("left", 255), ("right", 0)])
def test_kj_crops_at_the_place_that_is_named(place: str, red: int) -> None:
    picture = Image.new("RGB", (200, 100), (0, 0, 0))
    picture.paste((255, 0, 0), (0, 0, 100, 100))
    file = io.BytesIO()
    picture.save(file, "PNG")
    document = resized(
        "ImageResizeKJv2", "image", width=100, height=100, keep_proportion="crop", crop_position=place, divisible_by=2
    )
    (request,) = requests_of(read_workflow(document), lambda name: file.getvalue())
    assert Image.open(io.BytesIO(request.images[0])).getpixel((50, 50)) == (red, 0, 0)


def test_what_resizing_cannot_give_is_refused_where_it_is_used() -> None:
    padded = resized("ImageResizeKJv2", "image", width=512, height=512, keep_proportion="pad")
    assert "adds a border (pad)" in refused(padded)
    masked = resized("ImageResizeKJv2", "image", width=512, height=512, keep_proportion="stretch")
    assert run(masked).width == 512
    masked["20"] = node("SetLatentNoiseMask", samples=["6", 0], mask=["5", 3])
    masked["12"]["inputs"]["latent_image"] = ["20", 0]
    assert "Node 5 (ImageResizeKJv2): its mask marks nothing" in refused(masked)
    assert "Choose one of: scale dimensions" in refused(resized("ResizeImageMaskNode", "input", resize_type="other"))


def test_a_resolution_is_chosen_by_proportions_and_megapixels() -> None:
    document = api_edit(
        n5=node("ResolutionSelector", aspect_ratio="16:9 (Widescreen)", megapixels=1.0, multiple=8),
        n6=node("EmptySD3LatentImage", width=["5", 0], height=["5", 1], batch_size=1),
        n7={"image1": ["4", 0]},
        n8={"image1": ["4", 0]},
    )
    request = run(document)
    assert (request.width, request.height) == (1376, 768)  # 1368 x 768, in multiples of 16


def with_loras(class_type: str, **inputs: Any) -> WorkflowRequest:
    return run(api_edit(n20=node(class_type, model=["10", 0], **inputs), n12={"model": ["20", 0]}))


def test_lists_of_loras_have_those_that_are_on() -> None:
    stack = with_loras(
        "Lora Loader Stack (rgthree)",
        **{"clip": ["2", 0], "lora_01": "a.safetensors", "strength_01": 0.5, "lora_02": "None", "strength_02": 1},
        **{"lora_03": "b.safetensors", "strength_03": 0, "lora_04": "c.safetensors", "strength_04": -1},
    )
    assert stack.loras == (("a", 0.5), ("c", -1.0))
    one = with_loras("NunchakuQwenImageLoraLoader", lora_name="a.safetensors", lora_strength=0.75)
    assert one.loras == (("a", 0.75),)
    entries = {f"lora_name_{n}": f"{n}.safetensors" for n in range(1, 5)} | {"lora_strength_2": 0.5, "enabled_1": False}
    several = with_loras("NunchakuQwenImageLoraStackV3", lora_count=3, toggle_all=True, **entries)
    assert several.loras == (("2", 0.5), ("3", 1.0))
    assert with_loras("NunchakuQwenImageLoraStackV3", lora_count=3, toggle_all=False, **entries).loras == ()


@pytest.mark.parametrize("suffix", ["MultiGPU", "DisTorch2MultiGPU"])
def test_loaders_on_other_devices_are_those_loaders(suffix: str) -> None:
    document = edit_workflow()
    for each in document["definitions"]["subgraphs"][0]["nodes"]:
        if each["type"] in ("UNETLoader", "CLIPLoader", "VAELoader"):
            each["type"] += suffix
            each["widgets_values"] = [*each["widgets_values"], "cuda:1", 4.0]
    assert run(document).options() == run(edit_workflow()).options()


@pytest.mark.parametrize(
    ("nodes", "prompt"),
    [
        ((node("JoinStrings", string1=["21", 0], string2="b", delimiter=", "), node("CR Text", text="a")), "a, b"),
        ((node("ShowText|pysssss", text=["21", 0]), node("easy positive", positive="a")), "a"),
        ((node("ImpactSwitch", select=2, input1=["99", 0], input2=["21", 0]), node("easy string", value="b")), "b"),
        ((node("LazySwitchKJ", switch=False, on_false="a", on_true=["99", 0]), node("CR Text", text="b")), "a"),
    ],
)
def test_nodes_that_hold_and_choose_text(nodes: tuple[dict[str, Any], dict[str, Any]], prompt: str) -> None:
    assert run(api_edit(n7={"prompt": ["20", 0]}, n20=nodes[0], n21=nodes[1])).prompt == prompt


def test_a_seed_of_another_package_counts() -> None:
    assert run(api_edit(n20=node("easy seed", seed=11), n12={"seed": ["20", 0]})).seed == 11


def test_other_nodes_that_save_are_save_nodes() -> None:
    request = run(api_edit(n14=node("Image Save", images=["13", 0], filename_prefix="was")))
    assert (request.class_type, request.filename_prefix) == ("Image Save", "was")


@pytest.mark.parametrize("control", [["randomize"], [True], [False], []])
def test_a_sampler_is_read_from_files_of_all_ages(control: list[Any]) -> None:
    """What becomes of a seed is a word today; it was a box to tick, and nothing before."""
    canvas = CanvasNode("1", "KSampler", 0, "", (), (), [5, *control, 13, 8.5, "euler", "simple", 1], {})
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    assert widget_values(canvas) == dict(zip(names, (5, 13, 8.5, "euler", "simple", 1), strict=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["scale total pixels", 1.5, "area"], {"resize_type.megapixels": 1.5, "scale_method": "area"}),
        (
            ["scale dimensions", 640, 480, "disabled", "lanczos"],
            {
                **{"resize_type.width": 640, "resize_type.height": 480, "resize_type.crop": "disabled"},
                "scale_method": "lanczos",
            },
        ),
        (["match size", "center", "area"], {"resize_type.crop": "center", "scale_method": "area"}),
    ],
)
def test_widgets_that_follow_from_a_choice_have_their_names(values: list[Any], expected: dict[str, Any]) -> None:
    canvas = CanvasNode("1", "ResizeImageMaskNode", 0, "", (), (), values, {})
    assert widget_values(canvas) == {"resize_type": values[0], **expected}


def everywhere(*, saved: bool, mode: int = 0) -> dict[str, Any]:
    """An edit whose VAE comes from Anything Everywhere, with or without the links that the page notes of it."""
    g = Graph()
    g.node(1, "UNETLoader", ["m.safetensors", "default"], gives="MODEL")
    g.node(2, "CLIPLoader", ["c.safetensors", "qwen_image", "default"], gives="CLIP")
    g.node(3, "VAELoader", ["v.safetensors"], gives="VAE")
    g.node(4, "LoadImage", ["cat.png", "image"], gives="IMAGE MASK")
    g.node(5, "Anything Everywhere", takes={"anything": "VAE"}, mode=mode)
    encode = {"clip": "CLIP", "vae": "VAE", "image1": "IMAGE"}
    for number, text in ((7, "make it night"), (8, "")):
        g.node(number, "TextEncodeQwenImageEditPlus", [text], takes=encode, gives="CONDITIONING")
        g.link(2, 0, number, "clip")
        g.link(4, 0, number, "image1")
    g.node(6, "VAEEncode", takes={"pixels": "IMAGE", "vae": "VAE"}, gives="LATENT")
    sampled = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"}
    g.node(12, "KSampler", [7, "fixed", 4, 1, "euler", "simple", 1], takes=sampled, gives="LATENT")
    g.node(13, "VAEDecode", takes={"samples": "LATENT", "vae": "VAE"}, gives="IMAGE")
    g.node(14, "SaveImage", ["x"], takes={"images": "IMAGE"})
    for origin, target, name in (
        *((3, 5, "anything"), (4, 6, "pixels"), (1, 12, "model"), (7, 12, "positive"), (8, 12, "negative")),
        *((6, 12, "latent_image"), (12, 13, "samples"), (13, 14, "images")),
    ):
        g.link(origin, 0, target, name)
    document = g.document()
    if saved:
        document["extra"] = {
            "ue_links": [
                {"downstream": target, "downstream_slot": 1, "upstream": "3", "upstream_slot": 0, "controller": 5}
                for target in (6, 7, 8, 13)
            ]
        }
    return document


def test_links_of_anything_everywhere_count_where_the_page_noted_them() -> None:
    request = run(everywhere(saved=True))
    assert (request.prompt, request.steps, request.seed) == ("make it night", 4, 7)
    assert not any("without its link" in note.differs for note in request.notes)


def test_without_them_it_is_said_what_gives_the_input() -> None:
    for document in (everywhere(saved=False), everywhere(saved=True, mode=BYPASSED)):
        told = refused(document)
        assert "Anything Everywhere" in told
        assert "Export (API)" in told

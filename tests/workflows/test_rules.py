"""What single nodes come to, against ComfyUI's own formulas written down here."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from qied_client.workflows import examine, read_workflow, requests_of
from qied_client.workflows.files import MaskFile, PictureFile, Pictures, middle
from qied_client.workflows.rules.pictures import kontext_size
from qied_client.workflows.rules.sampling import SAMPLERS, SCHEDULES

from qied.planning.edits import comfyui
from tests.workflows.official import api_edit, edit_workflow, node
from tests.workflows.test_requests import find


def shifted(time: float, shift: float) -> float:
    return shift * time / (1 + (shift - 1) * time)


def simple(steps: int, shift: float) -> list[float]:
    """ComfyUI's "simple": every so many of 1000 shifted times, from the last."""
    table = [shifted(number / 1000, shift) for number in range(1, 1001)]
    return [table[-(1 + int(step * (1000 / steps)))] for step in range(steps)]


def sgm_uniform(steps: int, shift: float) -> list[float]:
    """ComfyUI's "sgm_uniform": times in equal parts from the largest sigma towards the smallest, shifted again."""
    times = np.linspace(1.0, shifted(1 / 1000, shift), steps + 1)[:-1]
    return [shifted(time, shift) for time in times]


@pytest.mark.parametrize("shift", [1.15, 3.0, 3.1])
def test_the_schedules_that_are_taken_have_the_daemons_sigmas(shift: float) -> None:
    assert SCHEDULES == ("simple", "sgm_uniform")
    for steps in range(1, 101):
        pairs = zip(simple(steps, shift), sgm_uniform(steps, shift), strict=True)
        assert max(abs(one - other) for one, other in pairs) < 0.01
        # The daemon's own times without compat: 1, 1 - 1/n, ... 1/n, as diffusers has them.
        own = [shifted(1 - step / steps, shift) for step in range(steps)]
        assert max(abs(one - other) for one, other in zip(simple(steps, shift), own, strict=True)) < 0.004


def test_schedules_that_are_refused_have_other_sigmas() -> None:
    normal = [shifted(time, 3.1) for time in np.linspace(1.0, shifted(1 / 1000, 3.1), 20)]
    assert max(abs(one - other) for one, other in zip(simple(20, 3.1), normal, strict=True)) > 0.1


def test_euler_takes_the_daemons_steps() -> None:
    """A step of ComfyUI's Euler on the denoised picture is a step along the velocity."""
    assert SAMPLERS == ("euler", "ddim")
    latents, velocity, sigma, after = 0.7, -0.3, 0.8, 0.6
    denoised = latents - sigma * velocity
    assert math.isclose(latents + (latents - denoised) / sigma * (after - sigma), latents + (after - sigma) * velocity)


@given(st.integers(16, 8192), st.integers(16, 8192))
def test_kontext_sizes_are_the_daemons(width: int, height: int) -> None:
    assert kontext_size(width, height) == comfyui.kontext_size((width, height))
    target = kontext_size(width, height)
    left, top, right, bottom = comfyui.centre_crop((width, height), target)
    cut = (left, top, right - left, bottom - top)
    assert middle((width, height), *target) in (cut, None if cut == (0, 0, width, height) else cut)


def sized(*nodes: dict[str, Any], picture: str = "wide.png") -> Any:
    """The request of an edit whose latents come from a picture through these nodes."""
    graph = api_edit(n4={"image": picture})
    before = "4"
    for number, each in enumerate(nodes, 30):
        graph[str(number)] = {**each, "inputs": {**each["inputs"], "image": [before, 0]}}
        before = str(number)
    graph["5"] = node("ImageScaleBy", image=[before, 0], upscale_method="area", scale_by=1.0)
    return requests_of(read_workflow(graph), find)[0]


@pytest.mark.parametrize(
    ("nodes", "size", "image"),
    [
        ([node("ImageScale", upscale_method="lanczos", width=960, height=0, crop="disabled")], (960, 544), None),
        ([node("ImageScale", upscale_method="lanczos", width=0, height=0, crop="disabled")], (1920, 1088), None),
        ([node("ImageScale", upscale_method="area", width=512, height=512, crop="center")], (512, 512), (512, 512)),
        ([node("ImageScaleToMaxDimension", upscale_method="area", largest_size=1024)], (1024, 576), None),
        (
            [node("ImageScaleToTotalPixels", upscale_method="area", megapixels=1.0, resolution_steps=64)],
            (1344, 768),
            None,
        ),
        ([node("ImageCrop", x=100, y=80, width=640, height=480)], (640, 480), (640, 480)),
        (
            [
                node("ImageScaleBy", upscale_method="area", scale_by=0.5),
                node("ImageCrop", x=10, y=20, width=320, height=320),
            ],
            (320, 320),
            (640, 640),
        ),
    ],
)
def test_scaling_gives_the_result_its_size(
    nodes: list[Any], size: tuple[int, int], image: tuple[int, int] | None
) -> None:
    request = sized(*nodes)
    assert (request.width, request.height) == size
    if image is not None:
        assert Image.open(io.BytesIO(request.images[0])).size == image


def test_kontext_crops_what_is_not_the_canvas() -> None:
    graph = api_edit(
        n4={"image": "wide.png"},
        n6=node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
    )
    (request,) = requests_of(read_workflow(graph), find)
    assert Image.open(io.BytesIO(request.images[0])).size == (1392, 752)
    assert (request.width, request.height) == (1024, 1024)


def test_transparency_is_left_out_as_comfyui_does_it() -> None:
    image = Image.new("RGBA", (32, 32), (200, 100, 50, 0))
    file = io.BytesIO()
    image.save(file, "PNG")
    (request,) = requests_of(read_workflow(api_edit()), lambda _: file.getvalue())
    sent = Image.open(io.BytesIO(request.images[0]))
    assert (sent.mode, sent.getpixel((0, 0))) == ("RGB", (200, 100, 50))


def mask_of(mask: MaskFile, pixels: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data, mode = Pictures(lambda _: file.getvalue()).mask(mask)
    return np.asarray(Image.open(io.BytesIO(data))), mode


def test_masks_mark_what_they_mark_in_comfyui() -> None:
    pixels = np.zeros((9, 9, 4), np.uint8)
    pixels[4, 4] = (10, 20, 30, 255)
    channel, mode = mask_of(MaskFile("m", "green"), pixels)
    assert (channel[4, 4], channel[0, 0], mode) == (20, 0, "white")
    inverted, _ = mask_of(MaskFile("m", "blue", inverted=True), pixels)
    assert (inverted[4, 4], inverted[0, 0]) == (225, 255)
    assert mask_of(MaskFile("m", "alpha"), pixels)[1] == "transparent"
    assert mask_of(MaskFile("m", "alpha", inverted=True), pixels)[1] == "opaque"


@pytest.mark.parametrize("tapered", [True, False])
@pytest.mark.parametrize("by", [1, 3, -1])
def test_grown_masks_have_the_shape_of_growmask(by: int, tapered: bool) -> None:
    """GrowMask takes the largest (or the least) of a cross, or of a square, as often as it says."""
    pixels = np.zeros((15, 15, 3), np.uint8)
    pixels[5:10, 6:9] = 255
    pixels[0, 0] = 255
    wanted = pixels[:, :, 0].copy()
    for _ in range(abs(by)):
        edge = np.pad(wanted, 1, mode="edge")
        near = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)] if tapered else [(y, x) for y in range(3) for x in range(3)]
        parts = np.stack([edge[y : y + 15, x : x + 15] for y, x in near])
        wanted = parts.max(0) if by > 0 else parts.min(0)
    found, _ = mask_of(MaskFile("m", "red", grown=by, tapered=tapered), pixels)
    assert np.array_equal(found, wanted)


def test_every_node_says_what_it_became() -> None:
    (request,) = requests_of(read_workflow(edit_workflow()), find)
    told = {note.class_type: note.became for note in request.notes}
    assert told["KSampler"] == "40 steps, cfg 4, seed 677909188488042"
    assert told["ComfySwitchNode"].startswith("its input on_false")
    assert "a size of the model" in told["FluxKontextImageScale"]
    assert "LoraLoaderModelOnly" not in told, "the branch that the switch does not take"
    assert all(note.became for note in request.notes)
    assert not any(note.differs for note in request.notes), "the official workflow is run as it is"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"n7": {"vae": None}}, "TextEncodeQwenImageEditPlus", "text encoder alone"),
        ({"n6": {"pixels": ["4", 0]}}, "VAEEncode", "1008 x 1008 pixels, in multiples of 16"),
        ({"n7": {"prompt": "a {red|blue} cat"}}, "TextEncodeQwenImageEditPlus", "at random"),
        ({"n6": node("EmptyLatentImage", width=64, height=64, batch_size=2)}, "EmptyLatentImage", "seeds of their own"),
        ({"n12": {"seed": 2**63 + 5}}, "KSampler", "modulo"),
        ({"n12": {"scheduler": "sgm_uniform"}}, "KSampler", "simple's"),
        ({"n7": {"image1": None, "image2": ["5", 0]}}, "TextEncodeQwenImageEditPlus", "without gaps"),
        ({"n8": {"image1": None}}, "TextEncodeQwenImageEditPlus", "same pictures"),
        ({"n8": node("ConditioningZeroOut", conditioning=["7", 0])}, "KSampler", "zeros"),
    ],
)
def test_what_differs_is_told_of_its_node(changes: dict[str, Any], kind: str, words: str) -> None:
    (request,) = requests_of(read_workflow(api_edit(**changes)), find)
    assert any(words in note.differs for note in request.notes if note.class_type == kind)


def test_without_files_names_stand_for_pictures() -> None:
    (request,) = examine(read_workflow(edit_workflow())).requests
    assert request.images == ("sofa.png", "fur.png")


def test_a_cropped_picture_is_brought_to_kontexts_size() -> None:
    file = PictureFile("x", (10, 0, 100, 100), (50, 50))
    data = Pictures(lambda _: find("cat.png")).picture(file)
    assert Image.open(io.BytesIO(data)).size == (50, 50)

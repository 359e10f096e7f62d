"""Workflows as ComfyUI's page opens them: the examples, and those inside of results, run by the nodes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from qied_client.picture_file.comfyui_graph import graph_of
from qied_client.picture_metadata import PictureMetadata, read_metadata

from qied.pictures.metadata import contents_for
from tests.comfyui.conftest import PACKAGE, SCENE
from tests.comfyui.host import Host, as_the_page_sends, chunks_of
from tests.daemon.conftest import DaemonProcess
from tools.comfyui_examples import EXAMPLES, prepared

PROMPT = "make the red heart blue"


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def few_steps(workflow: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with two steps, which is enough to see that it runs."""
    for node in workflow.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    return workflow


def test_every_example_runs_as_the_page_opens_it(studio_comfy: Host) -> None:
    prepared(studio_comfy)
    for name in EXAMPLES:
        page = json.loads((PACKAGE / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        done = studio_comfy.run(few_steps(as_the_page_sends(studio_comfy, page)))
        assert done.error is None, (name, done.error)
        saved = [each.name for each in studio_comfy.output.iterdir()]
        assert any(each.startswith(f"qied_{name}_") for each in saved), saved


def masks(folder: Path) -> Path:
    """A mask as programs paint it: one colour on a clear canvas, which is read as what is opaque."""
    mask = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    ImageDraw.Draw(mask).ellipse((60, 60, 200, 200), fill=(255, 40, 40, 255))
    mask.save(folder / "mask.png")
    return folder / "mask.png"


def test_a_result_opens_as_the_workflow_that_makes_it_again(
    studio: DaemonProcess, studio_comfy: Host, tmp_path: Path
) -> None:
    mask = masks(tmp_path)
    with studio.client() as client:
        results = {
            "edit": client.edit(
                *([SCENE, SCENE], PROMPT), mask=mask, loras=[("builtin-outline", 0.5)], steps=2, seed=5, align=False
            ),
            "own size": client.edit(SCENE, PROMPT, steps=2, size="same", upscale="2x", preset="draft"),
            # Weaker passes of so few steps change nothing.
            "regions": client.edit(
                *(SCENE, PROMPT),
                steps=2,
                redraw=[{"box": (64, 64, 96, 96), "strength": 1.0}, {"mask": mask, "strength": 1.0, "steps": 3}],
            ),
            "refined": client.edit(SCENE, PROMPT, steps=2, refine=0.9),
            "canvas": client.redraw(SCENE, PROMPT, box=(40, 40, 128, 96), strength=0.8, steps=2, references=[SCENE]),
            "larger": client.upscale(SCENE),
            "as ComfyUI": client.edit(
                SCENE, PROMPT, steps=2, seed=3, compat="comfyui,shift=2.5", width=256, height=256
            ),
        }
    for name, result in results.items():
        graphs = chunks_of(result.bytes)
        assert graphs.keys() == {"workflow", "prompt"}, name
        workflow = as_the_page_sends(studio_comfy, graphs["workflow"])
        made = studio_comfy.run(workflow)
        assert made.error is None, (name, made.error)
        (saved,) = [node for node in workflow.values() if node["class_type"] == "SaveImage"]
        again = (made.image(saved["inputs"]["images"][0])[0] * 255).round().byte().numpy()
        assert np.array_equal(again, pixels(result.bytes)[..., : again.shape[-1]]), name
        for number, node in graphs["prompt"].items():
            assert node["inputs"].items() <= workflow[number]["inputs"].items(), "both forms say the same"


@pytest.mark.parametrize(
    ("drift", "aligned", "asked"), [((), False, True), ((1.0, 2.0, 1.0), True, True), ((1.0, 2.0, 1.0), False, False)]
)
def test_a_drift_that_was_left_is_left_again(drift: tuple[float, ...], aligned: bool, asked: bool) -> None:
    metadata = PictureMetadata(
        *(PROMPT, None, 7, 4, 1.0, 256, 256, "builtin", "0.2.0"), sources=("a" * 64,), drift=drift, aligned=aligned
    )
    (edit,) = [node for node in graph_of(metadata).for_api().values() if node["class_type"] == "QiedEdit"]
    assert edit["inputs"]["align"] is asked


@pytest.mark.parametrize("kind", ["sources", "none"])
def test_a_graph_of_any_metadata_is_one_that_the_nodes_take(comfy: Host, kind: str) -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    blob = st.text("0123456789abcdef", min_size=64, max_size=64)
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

    @settings(max_examples=25)
    @given(
        st.builds(
            PictureMetadata,
            prompt=text,
            negative_prompt=st.none() | text,
            seed=st.integers(0, 2**63 - 1),
            steps=st.integers(0, 200),
            true_cfg_scale=st.floats(1, 20),
            width=st.integers(1, 64).map(lambda count: count * 16),
            height=st.integers(1, 64).map(lambda count: count * 16),
            model=text,
            version=text,
            loras=st.lists(st.tuples(text.filter(bool), st.floats(-4, 4)), max_size=3).map(tuple),
            sources=st.lists(blob, max_size=0 if kind == "none" else 3).map(tuple),
            mask=st.none() | blob,
            size=st.sampled_from(["", "same", "default"]),
            mask_mode=st.sampled_from(["", "auto", "white", "transparent", "opaque"]),
            background=st.sampled_from(["", "transparent", "opaque"]),
            redraw=st.lists(st.sampled_from(["1,2,30,40,strength=0.4", "feather=0,padding=0"]), max_size=3).map(tuple),
            canvas=st.none() | blob,
            drift=st.sampled_from([(), (1.0, 2.0, 1.0)]),
            upscale=st.sampled_from(["", "builtin-2x"]),
        )
    )
    def check(metadata: PictureMetadata) -> None:
        contents = contents_for(metadata)
        api, page = json.loads(contents.prompt), json.loads(contents.workflow)
        if not (metadata.upscale and not metadata.steps and not metadata.sources):  # nothing was there to enlarge
            comfy.check(api)
            comfy.check(as_the_page_sends(comfy, page))
        numbers = [node["id"] for node in page["nodes"]]
        assert numbers == list(range(1, len(numbers) + 1)) == [int(number) for number in api]
        places = [tuple(node["pos"]) for node in page["nodes"]]
        assert len(set(places)) == len(places), "no node lies on another"

    check()


def test_a_result_of_more_pictures_than_the_node_takes_has_no_graph(studio: DaemonProcess) -> None:
    with studio.client() as client:
        metadata = read_metadata(client.edit(SCENE, PROMPT, steps=1).bytes)
    assert metadata is not None
    contents = contents_for(PictureMetadata(**{**vars(metadata), "sources": ("a" * 64,) * 4}))
    assert contents.parameters and not contents.prompt and not contents.workflow

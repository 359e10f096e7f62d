"""The nodes with a real daemon and the built-in model, in a host of ComfyUI's API (``host.py``)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from qied_client.errors import AboveCap, CredentialsMissing, InvalidRequest, JobCancelled, UnknownBlob, UnknownLora
from qied_client.picture_metadata import read_metadata

from tests.comfyui import api
from tests.comfyui.conftest import SCENE
from tests.comfyui.host import Host, InvalidWorkflow, Run
from tests.daemon.conftest import DaemonProcess, StartDaemon

PROMPT = "make the red heart blue"
LOAD = {"class_type": "LoadImage", "inputs": {"image": "scene.png"}}


def graph(**nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Nodes by id; the first word of each value is the class."""
    return {number: {"class_type": node.pop("kind"), "inputs": node} for number, node in nodes.items()}


def edited(**inputs: Any) -> dict[str, dict[str, Any]]:
    """A picture, one edit of it, and a preview."""
    return {
        "1": LOAD,
        **graph(
            edit={"kind": "QiedEdit", "image1": ["1", 0], "prompt": PROMPT, "seed": 3, "steps": 2, **inputs},
            shown={"kind": "PreviewImage", "images": ["edit", 0]},
        ),
    }


def tensor(data: bytes) -> torch.Tensor:
    """A result's file as its levels, [height, width, channels]."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data))))


def levels(image: torch.Tensor) -> torch.Tensor:
    """A picture of an IMAGE as levels; what is not a level to the last bit fails."""
    found = (image * 255).round()
    assert torch.equal(image, (found / 255).to(torch.float32))
    return found.byte()


def run(host: Host, workflow: dict[str, dict[str, Any]], seen: api.Seen | None = None) -> Run:
    """Run a workflow that must succeed."""
    done = host.run(workflow, seen)
    if done.error is not None:
        raise done.error
    return done


def test_a_node_gives_what_the_client_gives_to_the_bit(studio: DaemonProcess, studio_comfy: Host) -> None:
    done = run(studio_comfy, edited())
    with studio.client() as client:
        result = client.edit(SCENE, PROMPT, seed=3, steps=2)
    assert torch.equal(levels(done.image("edit")[0]), tensor(result.bytes))
    assert done.outputs["edit"][1].startswith("[FP32] 256 x 256, seed 3, 2 steps, guidance 1, ")
    assert done.seen.of("edit")[-1] == done.outputs["edit"][1], "and the node says how it was made"


def test_progress_and_the_forming_picture_are_shown_on_the_node(studio_comfy: Host) -> None:
    seen = run(studio_comfy, edited(steps=6)).seen
    assert {node for node, _ in seen.previews} == {"edit"} and len(seen.previews) >= 4
    done = [value for node, value, total in seen.progress if node == "edit" and total == 100]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 100
    assert any(text.startswith("editing 1/6") for text in seen.of("edit"))


def test_the_same_workflow_again_runs_nothing_and_another_seed_edits_again(studio_comfy: Host) -> None:
    assert run(studio_comfy, edited()).executed == ["1", "edit", "shown"]
    assert run(studio_comfy, edited()).executed == []
    assert run(studio_comfy, edited(seed=4)).executed == ["edit", "shown"]


def test_three_edits_wait_at_once(studio_comfy: Host) -> None:
    names = ("a", "b", "c")
    nodes = {name: {"kind": "QiedEdit", "image1": ["1", 0], "prompt": PROMPT, "steps": 6} for name in names}
    done = run(studio_comfy, {"1": LOAD, **graph(**nodes)})
    told = done.seen.texts
    first_end = next(place for place, (_, text) in enumerate(told) if text.startswith("[FP32]"))
    assert {node for node, text in told[:first_end] if text.startswith("editing ")} == set(names)


def test_cancel_cancels_every_job_that_waits(studio: DaemonProcess, studio_comfy: Host) -> None:
    nodes = {
        name: {"kind": "QiedEdit", "image1": ["1", 0], "prompt": f"{PROMPT} {name}", "steps": 200} for name in "ab"
    }
    started: set[str] = set()

    def press(node: str, text: str) -> None:
        if text.startswith("editing "):
            started.add(node)
        if started == {"a", "b"}:
            studio_comfy.interrupt()

    done = studio_comfy.run({"1": LOAD, **graph(**nodes)}, api.Seen(on_text=press))
    assert isinstance(done.error, api.InterruptProcessingException)
    with studio.client() as client:
        for job in client.jobs(limit=2):
            assert job.prompt[:-2] == PROMPT
            with pytest.raises(JobCancelled):
                client.job(job.id).result(timeout=30)


def test_a_node_that_fails_cancels_those_that_wait(studio: DaemonProcess, studio_comfy: Host) -> None:
    nodes: dict[str, dict[str, Any]] = {
        "long": {"kind": "QiedEdit", "image1": ["1", 0], "prompt": "a long one", "steps": 200},
        "wrong": {"kind": "QiedEdit", "image1": ["1", 0], "prompt": PROMPT, "width": 8192, "height": 8192},
    }
    done = studio_comfy.run({"1": LOAD, **graph(**nodes)})
    assert done.failed_node == "wrong" and isinstance(done.error, AboveCap)
    assert "Ask for 512 x 512, or let the daemon fit it (on_cap='fit')." in str(done.error)
    with studio.client() as client:
        for job in client.jobs(limit=1):
            if job.prompt == "a long one":  # else it was given up before it was handed in
                with pytest.raises(JobCancelled):
                    client.job(job.id).result(timeout=30)


def test_a_mask_keeps_what_it_does_not_mark_and_the_mask_of_no_mask_is_none(studio_comfy: Host) -> None:
    marked = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    marked.paste((0, 0, 0, 0), (70, 70, 186, 186))
    marked.save(studio_comfy.input / "mask.png")
    workflow = edited(mask=["2", 1])
    workflow["2"] = {"class_type": "LoadImage", "inputs": {"image": "mask.png"}}
    kept = levels(run(studio_comfy, workflow).image("edit")[0])
    source = tensor(SCENE.read_bytes())[..., :3]
    assert torch.equal(kept[:60], source[:60]) and not torch.equal(kept[100:150, 100:150], source[100:150, 100:150])
    workflow["edit"]["inputs"]["mask"] = ["1", 1]
    assert not torch.equal(levels(run(studio_comfy, workflow).image("edit"))[0, :60], source[:60]), "all was edited"


def test_loras_act_in_their_chain(studio: DaemonProcess, studio_comfy: Host) -> None:
    options = run(studio_comfy, graph(server={"kind": "QiedServer"})) and studio_comfy.nodes["QiedLora"].schema()
    assert options.inputs[0].settings["options"] == ["", "builtin-lightning-4steps", "builtin-outline"]
    chain = graph(
        one={"kind": "QiedLora", "name": "builtin-outline", "strength": 0.75},
        none={"kind": "QiedLora", "name": "", "loras": ["one", 0]},
        two={"kind": "QiedLora", "name": "builtin-lightning-4steps", "loras": ["none", 0]},
    )
    done = run(studio_comfy, {**edited(loras=["two", 0]), **chain})
    with studio.client() as client:
        loras = [("builtin-outline", 0.75), "builtin-lightning-4steps"]
        result = client.edit(SCENE, PROMPT, seed=3, steps=2, loras=loras)
    assert torch.equal(levels(done.image("edit")[0]), tensor(result.bytes))
    wrong = studio_comfy.run({**edited(loras=["two", 0]), **graph(two={"kind": "QiedLora", "name": "absent"})})
    assert isinstance(wrong.error, UnknownLora) and "builtin-outline" in str(wrong.error)


def test_turns_of_a_session_follow_each_other_and_are_taken_back(studio: DaemonProcess, studio_comfy: Host) -> None:
    def session(**inputs: Any) -> dict[str, dict[str, Any]]:
        return graph(session={"kind": "QiedSession", "image": ["1", 0], "name": "nodes", **inputs})

    turns = graph(
        first={"kind": "QiedEdit", "session": ["session", 0], "prompt": PROMPT, "seed": 0, "steps": 8},
        second={
            "kind": "QiedEdit",
            "session": ["first", 2],
            "prompt": "make the green square red",
            "seed": 0,
            "steps": 8,
        },
    )
    done = run(studio_comfy, {"1": LOAD, **session(turn=0), **turns})
    two = levels(done.image("second")[0]).int()
    assert two[120, 128, 2] > 180 > two[120, 128, 0], "the heart stayed blue"
    assert two[45, 210, 0] > 180 > two[45, 210, 1], "the square turned red"
    assert ", turn 2, " in done.outputs["second"][1]

    undone = run(studio_comfy, {"1": LOAD, **session(undo=1)})
    assert torch.equal(undone.outputs["session"][1], done.image("first"))
    assert "at turn 1 of 2" in undone.outputs["session"][2]
    again = run(studio_comfy, {"1": LOAD, **session(undo=1)})
    assert again.executed == ["session"], "an undo is done each time"
    assert torch.equal(levels(again.outputs["session"][1][0]), tensor(SCENE.read_bytes())[..., :3])
    with studio.client() as client:
        client.take_up_session("nodes").close()


def test_a_picture_is_enlarged(studio: DaemonProcess, studio_comfy: Host) -> None:
    workflow = {"1": LOAD, **graph(up={"kind": "QiedUpscale", "image": ["1", 0], "upscaler": "2x"})}
    done = run(studio_comfy, workflow)
    with studio.client() as client:
        result = client.upscale(SCENE, "2x")
    assert torch.equal(levels(done.image("up")[0]), tensor(result.bytes)) and done.image("up").shape[1:3] == (512, 512)


def test_a_region_is_drawn_again(studio: DaemonProcess, studio_comfy: Host) -> None:
    box = {"x": 80, "y": 80, "width": 96, "height": 96}
    redraw = {"kind": "QiedRedraw", "image": ["1", 0], "prompt": PROMPT, "seed": 5, "steps": 2, "strength": 0.9, **box}
    region = {"kind": "QiedRegion", "strength": 0.9, **box}
    done = run(
        studio_comfy,
        {
            **edited(canvas=["1", 0], redraw=["region", 0], seed=5, steps=2),
            **graph(redraw=redraw, region=region),
        },
    )
    with studio.client() as client:
        result = client.redraw(SCENE, PROMPT, box=(80, 80, 96, 96), strength=0.9, seed=5, steps=2)
    drawn = levels(done.image("redraw")[0])
    assert torch.equal(drawn, tensor(result.bytes)[..., :3])
    assert torch.equal(drawn, levels(done.image("edit")[0])), "and so by a region of an edit with a canvas"
    assert torch.equal(drawn[:80], tensor(SCENE.read_bytes())[:80, :, :3])


def test_each_picture_of_a_batch_is_an_edit_of_its_own(studio: DaemonProcess, studio_comfy: Host) -> None:
    two = torch.stack([tensor(SCENE.read_bytes())[..., :3].float() / 255] * 2)
    two[1] = two[1].flip(1)
    studio_comfy._builtin["Batch"] = (lambda: (two,), ("IMAGE",))
    workflow = {**edited(image1=["batch", 0]), "batch": {"class_type": "Batch", "inputs": {}}}
    done = run(studio_comfy, workflow)
    assert done.image("edit").shape == (2, 256, 256, 3) and done.outputs["edit"][1].count("[FP32]") == 2
    with studio.client() as client:
        for number, each in enumerate(two):
            result = client.edit(each.numpy(), PROMPT, seed=3 + number, steps=2)
            assert torch.equal(levels(done.image("edit")[number]), tensor(result.bytes))
    three = {**workflow, "three": {"class_type": "Three", "inputs": {}}}
    studio_comfy._builtin["Three"] = (lambda: (two[:1].repeat(3, 1, 1, 1),), ("IMAGE",))
    three["edit"]["inputs"]["image2"] = ["three", 0]
    wrong = studio_comfy.run(three)
    assert isinstance(wrong.error, InvalidRequest) and "image1 has 2, image2 has 3 pictures" in str(wrong.error)


def test_transparency_is_kept(studio_comfy: Host) -> None:
    seen_through = torch.cat([tensor(SCENE.read_bytes())[..., :3], torch.full((256, 256, 1), 255).byte()], -1)
    seen_through[:40, :, 3] = 0
    studio_comfy._builtin["Clear"] = (lambda: (seen_through[None].float() / 255,), ("IMAGE",))
    done = run(studio_comfy, {**edited(image1=["clear", 0]), "clear": {"class_type": "Clear", "inputs": {}}})
    result = levels(done.image("edit")[0])
    assert result.shape[-1] == 4 and not result[:30, :, 3].any() and result[60:, :, 3].min() == 255


def test_the_picture_of_an_edit_is_fetched_by_its_hash(studio: DaemonProcess, studio_comfy: Host) -> None:
    with studio.client() as client:
        result = client.edit(SCENE, PROMPT, steps=1)
    metadata = read_metadata(result.bytes)
    assert metadata is not None
    done = run(studio_comfy, graph(p={"kind": "QiedPicture", "picture": metadata.sources[0]}))
    assert torch.equal(levels(done.image("p")[0]), tensor(SCENE.read_bytes())[..., :3])
    gone = studio_comfy.run(graph(p={"kind": "QiedPicture", "picture": "0" * 64}))
    assert isinstance(gone.error, UnknownBlob) and "Put Load Image" in str(gone.error)


def test_a_key_that_is_not_there_is_told_with_what_to_do(studio: DaemonProcess, studio_comfy: Host) -> None:
    key = studio.home.parent / "late.key.json"
    workflow = {
        **edited(server=["server", 0]),
        **graph(server={"kind": "QiedServer", "key": str(key)}),
    }
    done = studio_comfy.run(workflow)
    assert done.failed_node == "server" and isinstance(done.error, CredentialsMissing)
    assert str(key) in str(done.error) and "Qied Server node" in str(done.error)
    key.write_bytes(studio.key.read_bytes())
    key.chmod(0o600)
    assert run(studio_comfy, workflow).outputs["server"][1].startswith("builtin, presets "), "the next run looks again"


def test_values_that_comfyui_would_refuse_are_refused_by_the_host(studio_comfy: Host) -> None:
    studio_comfy.check(edited(preset="a name of another model"))
    with pytest.raises(InvalidWorkflow, match="value_not_in_list"):
        studio_comfy.check(edited(background="none"))
    with pytest.raises(InvalidWorkflow, match="value_bigger_than_max"):
        studio_comfy.check(edited(steps=1000))


def test_nodes_find_a_daemon_that_was_started_again(comfy: Host, start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    server = graph(server={"kind": "QiedServer", "key": str(daemon.key)})
    run(comfy, {**edited(server=["server", 0]), **server})
    daemon.kill()
    daemon.start()
    assert run(comfy, {**edited(server=["server", 0], seed=9), **server}).executed == ["edit", "shown"]

"""Workflows of ComfyUI at a real daemon with the built-in model, by the command and by the client."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata
from qied_client.workflows import WorkflowRefused, read_workflow, requests_of

from qied.cli.main import command_line
from qied.resources import builtin_model_folder
from tests.workflows.official import LIGHTNING, edit_workflow
from tests.workflows.test_requests import VARIANTS, find

BLUE = "make the red heart blue"


@pytest.fixture(scope="module")
def builtin_daemon(tmp_path_factory, daemon_process):
    daemon = daemon_process(tmp_path_factory.mktemp("builtin") / "home", engine="qied.engine.serving:load")
    yield daemon.start()
    daemon.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the official workflow for one picture, and that picture."""
    path = tmp_path_factory.mktemp("work")
    shutil.copy(builtin_model_folder().parent / "demo.png", path / "demo.png")
    (path / "edit.json").write_text(
        json.dumps(edit_workflow(("demo.png",), prompt=BLUE, steps=4, scale=1, advanced=True))
    )
    return path


@pytest.fixture
def qied(builtin_daemon, folder, monkeypatch):
    """Run a command of ``qied`` in this process; returns its exit status."""
    monkeypatch.setenv("QIED_KEY", str(builtin_daemon.key))
    monkeypatch.chdir(folder)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qied"])
        with pytest.raises(SystemExit) as left:
            command_line()([str(argument) for argument in arguments], prog_name="qied")
        return left.value.code or 0

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_workflow_is_run_and_its_picture_makes_itself_again(qied, folder, builtin_daemon, capfd):
    assert qied("run", "edit.json", "--set", "seed=5", "-o", "{prefix}-{seed}.png", "--json") == 0
    (row,) = json.loads(capfd.readouterr().out)
    path = folder / "Qwen_Edit_2511-5.png"
    assert (row["path"], row["steps"], row["seed"]) == (path.name, 4, 5)
    heart = pixels(path)[120, 128]
    assert heart[2] > 150 > heart[0], "the heart turned blue"
    made = read_metadata(path)
    assert made is not None
    assert (made.prompt, made.true_cfg_scale, made.compat, made.size) == (BLUE, 1.0, "comfyui", "kontext")
    with builtin_daemon.client() as client:
        edited = client.edit(folder / "demo.png", BLUE, steps=4, true_cfg_scale=1.0, seed=5, compat="comfyui")
    edited.save(folder / "edited.png")
    assert np.array_equal(pixels(path), pixels(folder / "edited.png"))

    (folder / "elsewhere").mkdir()  # without its source, which the daemon still has
    shutil.copy(path, folder / "elsewhere")
    assert qied("run", f"elsewhere/{path.name}", "-o", "again.png") == 0
    assert np.array_equal(pixels(path), pixels(folder / "again.png"))


def test_explaining_says_what_each_node_becomes_and_runs_nothing(qied, folder, capfd):
    before = sorted(folder.iterdir())
    assert qied("run", "edit.json", "--explain") == 0
    shown = capfd.readouterr().out
    assert "9 SaveImageAdvanced" in shown and "FluxKontextImageScale" in shown and BLUE in shown
    assert "warning: The workflow loads qwen_image_edit_2511_fp8mixed" not in shown, "this model has no version"
    assert qied("run", "edit.json", "--explain", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    (request,) = document["requests"]
    assert request["images"] == ["demo.png"]
    assert {note["class_type"] for note in request["notes"]} >= {"UNETLoader", "KSampler", "ComfySwitchNode"}
    assert document["problems"] == []
    assert sorted(folder.iterdir()) == before


def test_problems_are_told_by_node_with_remedies(qied, folder, capfd):
    document = edit_workflow(("demo.png",), turbo=True)
    document["definitions"]["subgraphs"][0]["nodes"][1]["type"] = "Nothing"
    (folder / "bad.json").write_text(json.dumps(document))
    assert qied("run", "bad.json", "-o", "x.png") == 2
    told = capfd.readouterr().err
    assert "170:146 (Nothing)" in told and "Bypass it" in told
    assert not (folder / "x.png").exists()
    (folder / "lora.json").write_text(json.dumps(edit_workflow(("demo.png",), turbo=True)))
    assert qied("run", "lora.json") == 2
    assert f"has no LoRA {LIGHTNING.removesuffix('.safetensors')}" in capfd.readouterr().err
    assert qied("run", "edit.json", "--only", "7") == 2
    assert "Save nodes are 9." in capfd.readouterr().err
    assert qied("run", "edit.json", "--explain", "--set", "41.image=gone.png") == 2
    told = capfd.readouterr().err
    assert "Node 41 (LoadImage): gone.png is not in" in told and "--set 41.image=FILE" in told
    assert qied("run", "edit.json", "--explain", "--set", f"41.image={folder / 'demo.png'}") == 0
    capfd.readouterr()
    assert qied("run", "edit.json", "--set", "seed") == 2
    assert "it has no value" in capfd.readouterr().err


@pytest.mark.parametrize("name", VARIANTS)
def test_the_daemon_takes_what_workflows_ask_for(builtin_daemon, name):
    """But for LoRAs, upscaling models and pictures from text, which this daemon does not have."""
    document, _ = VARIANTS[name]
    for request in requests_of(read_workflow(document() if callable(document) else document), find):
        options = {**request.options(), "loras": None, "upscale": "", "task": "edit", "on_cap": "fit"}
        images = request.images or (find("cat.png"),)
        with builtin_daemon.client() as client:
            quoted = client.quote(list(images), request.prompt, **options)
        assert quoted.steps == (request.steps or quoted.steps)


def test_the_client_runs_a_workflow(builtin_daemon, folder):
    news: list[Any] = []
    with builtin_daemon.client() as client:
        (done,) = client.run_workflow(
            folder / "edit.json", settings={"170:166.value": 2, "seed": 3}, on_progress=news.append, previews=False
        )
        assert (done.request.node_id, done.result.seed, done.result.steps) == ("9", 3, 2)
        assert news
        with pytest.raises(WorkflowRefused) as caught:
            client.run_workflow(edit_workflow(("demo.png",), turbo=True), pictures=folder)
    assert caught.value.problems[0].node_id == "170:153"

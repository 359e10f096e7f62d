"""``qied serve`` says what is wrong before it serves anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from typer.main import get_command

from qied.cli.main import command_line
from qied.resources import builtin_model_folder


def serve(tmp_path, *arguments, **environ):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "HF_", "COMFYUI_"))}
    return subprocess.run(
        [sys.executable, "-m", "qied", "serve", "--home", str(tmp_path / "home"), *arguments],
        capture_output=True,
        text=True,
        env={**kept, "HOME": str(tmp_path), "COLUMNS": "80", **environ},
        cwd=tmp_path,
        check=False,
        timeout=60,
    )


def test_without_any_model_it_says_how_to_get_one_and_how_to_serve_the_built_in(tmp_path):
    done = serve(tmp_path, "--listen", "tcp://127.0.0.1:*")
    assert done.returncode == 2
    assert "qied pull qwen-image-edit-2511" in done.stderr
    assert "qied serve --model builtin" in done.stderr


def test_a_wrong_key_in_the_configuration_here_is_named_with_its_line(tmp_path):
    (tmp_path / "qied.toml").write_text("[daemon]\nlistn = 'tcp://127.0.0.1:1'\n")
    done = serve(tmp_path, "--model", "builtin")
    assert done.returncode == 2
    assert "qied.toml:2: daemon.listn is not a known key" in done.stderr.replace("\n", " ").replace("  ", " ")


def test_an_engine_that_cannot_be_loaded_ends_the_daemon_with_the_reason(tmp_path):
    model = tmp_path / "model"
    (model / "transformer").mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "transformer" / "config.json").write_text(
        '{"num_layers": 6, "num_attention_heads": 4, "attention_head_dim": 64}'
    )
    done = serve(tmp_path, "--model", str(model), "--listen", "tcp://127.0.0.1:*")
    assert done.returncode == 2
    assert "error model_" in done.stderr


def test_a_state_folder_that_cannot_be_made_is_told_with_what_helps(tmp_path):
    (tmp_path / "home").write_text("a file")
    done = serve(tmp_path, "--model", "builtin", "--listen", "tcp://127.0.0.1:*")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "home" in done.stderr and "move it away" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "web", "paused"),
    [
        ([], None, False),
        (["--web"], "", False),
        (["--web", "--paused"], "", True),
        (["--paused", "--web"], "", True),
        (["--web", "0.0.0.0:7448", "--paused"], "0.0.0.0:7448", True),
        (["--web=[::]:7448"], "[::]:7448", False),
    ],
)
def test_the_web_gateway_may_be_asked_for_with_an_address_or_without(words, web, paused):
    command = get_command(command_line()).commands["serve"]
    with command.make_context("serve", words) as context:
        assert (context.params["web"], context.params["paused"]) == (web, paused)


@pytest.mark.parametrize(("words", "comfyui"), [(["--comfyui", "--web"], ""), (["--comfyui", "*:8188"], "*:8188")])
def test_the_door_for_clients_of_comfyui_may_be_asked_for_in_the_same_ways(words, comfyui):
    with get_command(command_line()).commands["serve"].make_context("serve", words) as context:
        assert context.params["comfyui"] == comfyui


def test_an_address_of_the_web_gateway_that_is_none_is_told(tmp_path):
    done = serve(tmp_path, "--model", "builtin", "--web", "everywhere")
    assert done.returncode == 2
    assert "'everywhere' is not HOST:PORT" in " ".join(done.stderr.split())


def test_damaged_weights_of_a_folder_are_told_before_a_worker_starts(tmp_path):
    folder = shutil.copytree(builtin_model_folder(), tmp_path / "model")
    second = folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    second.unlink()
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    done = serve(tmp_path, "--model", str(folder), "--listen", "tcp://127.0.0.1:*")
    assert done.returncode == 2
    assert "it is a Git LFS pointer" in " ".join(done.stderr.split())
    assert "worker started" not in done.stdout + done.stderr

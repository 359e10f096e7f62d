"""``qied models`` tells which models there are, upscaling ones included, and what is wrong with the others."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

from tests.checkpoints.files import comfyui


def test_upscalers_are_listed_with_the_models(tmp_path):
    folder = tmp_path / "ComfyUI" / "models" / "upscale_models"
    folder.mkdir(parents=True)
    (folder / "broken.pth").write_bytes(b"?")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "HF_"))}
    given = {"QIED_MODEL_PATH": "builtin", "QIED_MODEL_UPSCALERS": str(folder), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "qied", "models", "--json"],
        capture_output=True,
        text=True,
        env={**kept, **given, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (own,) = found["upscalers"]
    assert (own["name"], own["scale"], own["architecture"]) == ("builtin-2x", 2, "compact")
    ((path, problem),) = found["unusable_upscalers"].items()
    assert path == str(folder / "broken.pth") and "cannot be used as an upscaler" in problem


def test_names_of_strangers_are_shown_as_text_and_remedies_can_be_pasted(tmp_path):
    root = tmp_path / "Comfy [bold] UI"
    first = comfyui(root)
    odd = first.with_name("two words\x1b[31m\nlines.safetensors")
    odd.hardlink_to(first)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "HF_", "COMFYUI_"))}
    given = {"COMFYUI_PATH": str(root), "HOME": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "qied", "models"],
        capture_output=True,
        text=True,
        env={**kept, **given, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert "\x1b" not in done.stdout, done.stderr
    assert "two words\\x1b[31m\\nlines.safetensors" in done.stdout
    assert f"{root}/models/diffusion_models" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.strip().startswith("--model") and first.name in line)
    assert shlex.split(line) == ["--model", str(first)]

"""``qied models`` tells which upscaling models there are, and what is wrong with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys


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

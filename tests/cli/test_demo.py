"""``qied demo``: the main job, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata


@pytest.mark.timeout(300)
def test_the_demo_edits_the_heart_and_nothing_else_and_writes_its_three_files(tmp_path):
    out = tmp_path / "out"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("QIED_")}
    environ["QIED_LIMITS_JOBS_WAITING"] = "not a number"
    profiles = tmp_path / "config" / "qied" / "profiles" / "hardware"
    profiles.mkdir(parents=True)
    (profiles / "mine.toml").write_text("this is no profile")
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    done = subprocess.run(
        [sys.executable, "-m", "qied", "demo", "--out", str(out)],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["after.png", "before.png", "report.json"]
    before, after = (
        np.asarray(Image.open(out / name).convert("RGB")).astype(int) for name in ("before.png", "after.png")
    )
    red, _, blue = after[120, 128]
    assert blue > 180 > red + 60, "the heart is blue now"
    assert before[120, 128][0] > 180, "and was red"
    outside = np.ones(before.shape[:2], bool)
    outside[80:175, 80:176] = False
    error = ((before - after)[outside] ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 35, "everything else is as it was"
    report = json.loads((out / "report.json").read_text())
    assert report["plan"]["model"] == "builtin"
    assert report["plan"]["predicted_peak_bytes"] <= report["plan"]["budget_bytes"]
    assert report["quote"]["steps"] == 20
    assert report["timings_ms"]["denoise_ms"] > 0
    metadata = read_metadata((out / "after.png").read_bytes())
    assert metadata is not None
    assert (metadata.prompt, metadata.seed) == (report["prompt"], report["seed"])
    assert "editing" in done.stderr

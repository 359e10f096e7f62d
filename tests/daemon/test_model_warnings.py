"""A model whose name contradicts the version that it is served as: told at the start, to its owner and in each edit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from qied_client.picture_metadata import read_metadata

from qied.resources import builtin_model_folder, profiles_folder


def test_a_model_named_for_another_version_is_told_at_the_start_and_in_each_edit(daemon_process, tmp_path, picture):
    model, profile = tmp_path / "edit-2509", tmp_path / "mine.toml"
    shutil.copytree(builtin_model_folder(), model)
    shipped = (profiles_folder() / "models" / "builtin.toml").read_text()
    profile.write_text(shipped.replace('name = "builtin"', 'name = "small-2511"'))
    daemon = daemon_process(tmp_path / "home", QIED_MODEL_PROFILE=str(profile))
    daemon.model = str(model)
    daemon.start()
    with daemon.client() as client:
        result = client.edit(picture, "go", steps=1)
    assert daemon.stop() == 0
    metadata = read_metadata(result.bytes)
    assert metadata is not None
    (warning,) = metadata.warnings
    assert warning.startswith("The model is named edit-2509, but is served as 2511.")
    logged = [line["event"] for line in daemon.log]
    assert logged.count(warning) == 1 and logged.index(warning) < logged.index("ready")
    listed = subprocess.run(
        [sys.executable, "-m", "qied", "models"],
        env={**os.environ, "QIED_MODEL_PATH": str(model), "QIED_MODEL_PROFILE": str(profile), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert listed.stdout.endswith(
        f"'qied serve' uses {model}\nas qied built-in small edit model, by its configuration\n! {warning}\n"
    )

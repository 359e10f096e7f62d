"""Where a configuration's values come from, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qied_client.errors import ConfigError

from qied.config import Config, all_keys, load_config

EXAMPLE = Path(__file__).parent.parent / "qied.toml"


def test_the_example_has_every_key_with_its_default():
    loaded = load_config(EXAMPLE, {}, {})
    assert loaded.config == Config()
    assert set(loaded.sources.values()) == {"file"}
    assert set(loaded.sources) == set(all_keys())


def test_every_key_of_the_example_is_explained_by_a_comment_above_it_or_its_neighbour():
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            above = lines[number - 1]
            assert above.startswith("#") or "=" in above, line


def test_command_line_wins_over_environment_over_file_over_default(tmp_path):
    path = tmp_path / "qied.toml"
    path.write_text("[limits]\njobs_waiting = 7\nsessions_per_user = 7\nuploads_per_client = 7\n")
    environ = {"QIED_LIMITS_SESSIONS_PER_USER": "8", "QIED_LIMITS_UPLOADS_PER_CLIENT": "8"}
    loaded = load_config(path, environ, {"limits.uploads_per_client": 9, "model.path": None})
    limits = loaded.config.limits
    assert (limits.jobs_waiting, limits.sessions_per_user, limits.uploads_per_client) == (7, 8, 9)
    assert loaded.sources["limits.jobs_waiting"] == "file"
    assert loaded.sources["limits.sessions_per_user"] == "environment"
    assert loaded.sources["limits.uploads_per_client"] == "command line"
    assert loaded.sources["model.path"] == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\n\njobs_wating = 1\n", ":3: limits.jobs_wating is not a known key"),
        ("[limit]\njobs_waiting = 1\n", ":1: limit is not a known section"),
        ("[limits]\njobs_waiting = 0\n", ":2: limits.jobs_waiting: Input should be greater than or equal to 1, not 0"),
        ("[limits]\njobs_waiting = 'many'\n", ":2: limits.jobs_waiting"),
        ("[daemon]\nlisten = 'ipc:///tmp/x'\n", ":2: daemon.listen"),
        ("limits = 3\n", "limits must be a table"),
        ("[limits\n", "line 1"),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_key(tmp_path, text, said):
    path = tmp_path / "qied.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {}, {})
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_wrong_environment_variable_is_named():
    with pytest.raises(ConfigError, match=r"QIED_WORKER_MAX_ACTIVE: worker.max_active"):
        load_config(None, {"QIED_WORKER_MAX_ACTIVE": "none"}, {})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.toml", {}, {})


def test_folders_are_a_list_in_a_file_and_separated_like_paths_in_the_environment(tmp_path):
    path = tmp_path / "qied.toml"
    path.write_text('[model]\nloras = ["/a", "b c"]\n')
    assert load_config(path, {}, {}).config.model.loras == ("/a", "b c")
    environ = {"QIED_MODEL_LORAS": os.pathsep.join(["/a", "", "b c"])}
    assert load_config(None, environ, {}).config.model.loras == ("/a", "b c")
    path.write_text("[model]\nloras = 3\n")
    with pytest.raises(ConfigError, match="model.loras"):
        load_config(path, {}, {})

"""Where a configuration's values come from, and what is refused."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from qied_client.errors import ConfigError

from qied.config import Config, all_keys, load_config
from qied.environment import foreign_in, variable_of

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
        ("[daemon]\nlisten = 'ipc:///tmp/x'\n", ":2: daemon.listen: 'ipc:///tmp/x' is not an address; use tcp://"),
        ("[storage]\nblob_bytes = '20GX'\n", ":2: storage.blob_bytes: '20GX' is not a size; write it as 8GB"),
        ("[storage]\nblob_bytes = '63MiB'\n", ":2: storage.blob_bytes: Input should be greater"),
        ("[limits]\ntarget_pixels = 7\n", ":2: limits.target_pixels: 7 is too small; use 0, or at least 65536."),
        ("[worker]\nengine = 'mine'\n", ":2: worker.engine: 'mine' does not name a function"),
        ("[model]\ngpus = 'fast one'\n", ":2: model.gpus: 'fast one' does not name cards"),
        ("[output]\nmarking = 'off'\naigc_producer = 'x'\n", ":2: output: marking is off, so aigc_producer and"),
        ("[output]\nc2pa_key = 'a'\n", ":2: output: c2pa_certificate and c2pa_key belong together, and one is missing"),
        ("[output]\nc2pa_time_url = 'http://a'\n", ":2: output: c2pa_time_url has no effect without"),
        ("[rewriter]\n\ncommand = ['a']\nurl = 'http://b'\n", ":3: rewriter: command and url are both given"),
        ("[rewriter]\nurl = 'b'\n", ":2: rewriter: url is not an address; write it like http://127.0.0.1:8080/v1"),
        ("[rewriter]\nurl = 'http://a:b@c/v1'\n", ":2: rewriter: url has a secret or a query in it"),
        ("[rewriter]\nmodel = 'b'\n", ":2: rewriter: model and key_file have no effect without url"),
        ("[daemon]\nmetrics = 'here'\n", ":2: daemon.metrics: 'here' is not HOST:PORT; write it like 127.0.0.1:9464"),
        ("[daemon]\nmetrics = '127.0.0.1:65536'\n", ":2: daemon.metrics: '127.0.0.1:65536' is not HOST:PORT"),
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


@pytest.mark.parametrize(
    ("given", "used"),
    [("", ""), ("9464", "127.0.0.1:9464"), ("0.0.0.0:9464", "0.0.0.0:9464"), ("[::1]:*", "[::1]:*")],
)
def test_figures_are_for_this_machine_unless_another_address_is_named(given, used):
    assert load_config(None, {}, {"daemon.metrics": given}).config.daemon.metrics == used


def test_a_wrong_environment_variable_is_named():
    with pytest.raises(ConfigError, match=r"QIED_WORKER_MAX_ACTIVE: worker.max_active"):
        load_config(None, {"QIED_WORKER_MAX_ACTIVE": "none"}, {})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("QIED_LIMITS_JOBS_WAITNG", "Did you mean QIED_LIMITS_JOBS_WAITING?"),
        ("QIED_WORKER_BUDGET", "Did you mean QIED_WORKER_BUDGET_BYTES?"),
        ("QIED_LISTEN", "Did you mean QIED_DAEMON_LISTEN or QIED_WEB_LISTEN?"),
        ("QIED_MODEL", "QIED_MODEL_PATH or "),
        ("QIED_KYE", "Did you mean QIED_KEY?"),
        ("QIED_LIMITS_COLOUR", "qied.toml has every section and key"),
    ],
)
def test_an_unknown_variable_is_refused_with_what_it_may_have_meant(name, remedy):
    with pytest.raises(ConfigError, match=f"{name} is not a known variable") as caught:
        load_config(None, {name: "1", "PATH": "/bin"}, {})
    assert remedy in caught.value.remedy


def test_variables_of_other_peoples_scripts_are_left_alone_and_named():
    environ = {"QIED_PY": "/usr/bin/python3", "QIED_BIN": "", "QIED_LIMITS_JOBS_WAITING": "7", "QIED_HOME": "/h"}
    assert load_config(None, environ, {}).config.limits.jobs_waiting == 7
    assert foreign_in(environ, all_keys()) == ("QIED_BIN", "QIED_PY")


@pytest.mark.parametrize("name", ["QIED_MODEL_PATH", "QIED_LIMITS_JOBS_WAITING", "QIED_MODEL_LORAS"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is set, but empty"):
        load_config(None, {name: value}, {})


def test_every_variable_that_the_code_reads_is_known():
    """Those of the client and of the tests as well: a daemon may inherit them."""
    read = set()
    for folder in ("qied", "client/qied_client", "tests", "benchmarks", "tools"):
        for path in (EXAMPLE.parent / folder).rglob("*.py"):
            if path.name != Path(__file__).name:
                read |= set(re.findall(r"[\"'](QIED_[A-Z0-9_]*[A-Z0-9])[\"']", path.read_text(encoding="utf-8")))
    # Types of sockets in ComfyUI, which are no variables.
    read -= {f"QIED_{socket}" for socket in ("LORAS", "REGIONS", "SERVER", "SESSION")}
    assert {"QIED_HOME", "QIED_KEY", "QIED_TEST_MEMORY", "QIED_MODEL_GPUS"} <= read
    load_config(None, dict.fromkeys(read - {variable_of(key) for key in all_keys()}, ""), {})


@pytest.mark.parametrize("key", [key for key in all_keys() if key.endswith("_bytes")])
def test_every_size_in_bytes_can_have_a_unit_wherever_it_is_set(tmp_path, key):
    section, name = key.split(".")
    path = tmp_path / "qied.toml"
    path.write_text(f'[{section}]\n{name} = "2.5 GiB"\n')
    found = [load_config(path, {}, {}), load_config(None, {variable_of(key): "2.5 GiB"}, {})]
    found.append(load_config(None, {}, {key: "2.5 GiB"}))
    assert [loaded.value(key) for loaded in found] == [5 * 2**29] * 3


@pytest.mark.parametrize("port", ["0", "65536", "-1", "", "http", "99999999999999999999"])
def test_a_port_is_from_1_to_65535_or_any(port):
    with pytest.raises(ConfigError, match=r"daemon\.listen: .*has no port from 1 to 65535 or \*; use tcp://"):
        load_config(None, {"QIED_DAEMON_LISTEN": f"tcp://127.0.0.1:{port}"}, {})


@pytest.mark.parametrize(
    "address", ["tcp://[::]:*", "tcp://[::1]:1", "tcp://*:65535", "tcp://eth0:7447", "tcp://[fe80::1%lo]:2"]
)
def test_addresses_of_every_family_are_accepted(address):
    assert load_config(None, {"QIED_DAEMON_LISTEN": address}, {}).config.daemon.listen == address


def test_no_message_shows_a_regular_expression():
    for key in all_keys():
        with suppress(ConfigError):
            load_config(None, {}, {key: "\\?"})
            continue
        with pytest.raises(ConfigError) as caught:
            load_config(None, {}, {key: "\\?"})
        assert "pattern" not in caught.value.message


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


def test_the_rewriter_s_command_is_written_as_in_a_shell_and_settings_reach_the_workers():
    environ = {"QIED_REWRITER_COMMAND": "better 'a prompt'", "QIED_OUTPUT_MARKING": "off"}
    config = load_config(None, environ, {}).config
    assert config.rewriter.for_workers.command == ("better", "a prompt") and config.rewriter.for_workers
    assert config.rewriter.for_workers.instruction and not config.output.marking_of_results.on
    assert not Config().rewriter.for_workers and Config().output.marking_of_results.on

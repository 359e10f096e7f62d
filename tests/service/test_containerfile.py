"""The Containerfile names what exists: files, extras, settings, commands and options. Nothing here builds it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli
from typer.main import get_command

from qied.cli.main import command_line
from qied.config import load_config

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
COPIED = {source for line in LINES if line.startswith("COPY ") for source in line.split()[1:-1]}


def of(instruction):
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(f"{instruction} ")]


def test_everything_that_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"qied", "client", "profiles", "constraints.txt", "pyproject.toml"} <= COPIED
    for source in COPIED:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_what_the_wheels_are_built_from_is_copied():
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= COPIED
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) <= COPIED


def test_extras_that_are_installed_exist():
    (extras,) = re.findall(r"\./client\[([\w,]+)\]", TEXT)
    client = tomli.loads((ROOT / "client" / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= set(client["project"]["optional-dependencies"])


def test_its_settings_are_accepted():
    environ = dict(re.findall(r"(\w+)=(\S+)", of("ENV")[0])) | dict(re.findall(r"-e (\w+)=(\S+)", TEXT))
    assert load_config(None, environ, {}).config.daemon.listen == "tcp://0.0.0.0:7447"
    assert of("EXPOSE") == ["7447"]


@pytest.mark.parametrize("command", [["serve", "--log-format"], ["ps"], ["keys", "add", "-o"]], ids=" ".join)
def test_its_commands_and_options_exist(command):
    found = get_command(command_line())
    for word in command:
        if word.startswith("-"):
            assert any(word in parameter.opts for parameter in found.params)
        else:
            found = found.commands[word]
        assert word in TEXT


def test_it_runs_the_daemon_and_asks_the_daemon_how_it_is():
    assert [*json.loads(of("ENTRYPOINT")[0]), *json.loads(of("CMD")[0])][:2] == ["qied", "serve"]
    assert of("HEALTHCHECK")[0].endswith("CMD qied ps > /dev/null || exit 1")
    assert of("USER") == ["qied"]

"""What the commands say on Windows itself: those of the daemon name WSL2, those of the client work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qied.cli.main import command_line

WINDOWS = Path(__file__).parent.parent / "planning" / "golden" / "snapshots" / "rtx-4060-laptop-windows.json"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A command line in an empty folder on a machine that says it is Windows."""
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("QIED_KEY", raising=False)
    return lambda *arguments: CliRunner().invoke(command_line(), [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command", [("serve",), ("serve", "--config", "absent.toml"), ("demo",), ("keys", "list"), ("keys", "add", "ann")]
)
def test_a_command_of_the_daemon_names_wsl2_before_it_does_anything(run, tmp_path, command):
    done = run(*command)
    assert done.exit_code == 2
    assert done.stderr.startswith("error system_unsupported The qied daemon does not run on Windows itself")
    assert "wsl --install" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("ps",), ("cancel", "job")])
def test_a_command_of_the_client_looks_for_its_key_as_everywhere(run, command):
    done = run(*command)
    assert done.exit_code == 3
    assert "credentials_missing" in done.stderr


def test_help_is_there_for_commands_of_the_daemon(run):
    assert run("keys", "--help").exit_code == 0
    assert run("serve", "--help").exit_code == 0


def test_the_doctors_first_finding_is_that_nothing_can_be_served(run):
    findings = json.loads(run("doctor", "--snapshot", WINDOWS, "--json").stdout)["findings"]
    assert (findings[0]["id"], findings[0]["status"]) == ("system.daemon", "error")
    assert "WSL2" in findings[0]["message"]
    done = run("doctor", "--snapshot", WINDOWS)
    assert done.exit_code == 2
    assert " ".join(done.stdout.split()).count("runs under WSL2") == 1


def test_the_plan_for_such_a_machine_is_that_refusal(run):
    done = run("plan", "--snapshot", WINDOWS, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["refused"]["code"] == "native_windows"

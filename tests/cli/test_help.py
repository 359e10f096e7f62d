"""The list of commands of ``qied --help``."""

from __future__ import annotations

from typer.testing import CliRunner

from qied.cli.main import command_line


def test_every_command_is_listed_under_a_title_and_running_the_daemon_comes_first() -> None:
    lines = CliRunner().invoke(command_line(), ["--help"], env={"COLUMNS": "80"}).output.splitlines()
    titles = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    assert titles[:3] == ["Options", "Run the daemon", "Models and this machine"]
    assert "Commands" not in titles
    assert max(map(len, lines)) <= 80

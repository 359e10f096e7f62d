import os
import subprocess
import sys
from typing import Any

import pytest
from qied_client.version import __version__

PROGRAM = "from qied_client.cli.main import main; main()"
COMMANDS = ("edit", "jobs", "result", "release", "cancel", "ps", "top", "presets", "loras", "login", "logout")


def test_the_version_is_told(run: Any) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"qied-client {__version__}\n")


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)], ids=" ".join)
def test_help_fits_80_columns_and_tells_no_type_of_flags(run: Any, command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "bool" not in done.stdout
    assert "--no-fit" not in done.stdout


def test_every_command_is_listed_under_a_title(run: Any) -> None:
    titles = [line.strip("╭─╮ ") for line in run("--help").stdout.splitlines() if line.startswith("╭")]
    assert titles == ["Options", "Edit pictures", "Jobs", "What edits can use", "Who has access"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_a_shell_and_answers(shell: str) -> None:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    program = f"import sys; sys.argv[0] = 'qied-client'; {PROGRAM}"
    command = [sys.executable, "-c", program, "--show-completion", shell]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "_QIED_CLIENT_COMPLETE" in done.stdout
    environ |= {"_QIED_CLIENT_COMPLETE": "complete_bash", "COMP_WORDS": "qied-client lo", "COMP_CWORD": "1"}
    done = subprocess.run(command[:3], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["loras", "login", "logout"]

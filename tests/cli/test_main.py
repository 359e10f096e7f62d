"""The command line of ``qied`` imports what the command needs, and has every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from qied.cli.main import PARTS, asked_for, command_line


def commands_of(app: typer.Typer) -> dict[str, Any]:
    command: Any = get_command(app)
    return dict(command.commands)


def signatures(command: Any) -> Iterator[object]:
    yield command.name, command.help, [(each.name, each.opts, each.required) for each in command.params]
    for part in getattr(command, "commands", {}).values():
        yield from signatures(part)


WHOLE = commands_of(command_line())


def test_the_parts_are_all_commands_under_their_names() -> None:
    named = [name for names, _ in PARTS for name in names.split() if name != "--version"]
    assert sorted(named) == sorted(set(named)) == sorted(WHOLE)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_command_by_itself_is_what_it_is_among_all(name: str) -> None:
    assert list(signatures(commands_of(command_line(name))[name])) == list(signatures(WHOLE[name]))


@pytest.mark.parametrize("first", ["", "--help", "sevre", "--log-level"])
def test_for_everything_else_all_commands_are_there(first: str) -> None:
    assert commands_of(command_line(first)).keys() == WHOLE.keys()


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"_TYPER_COMPLETE_ARGS": "qied ed"}, ""),
        ({"_TYPER_COMPLETE_ARGS": "qied edit"}, ""),
        ({"_TYPER_COMPLETE_ARGS": "qied edit --pr"}, "edit"),
        ({"COMP_WORDS": "qied\nps\n--k"}, "ps"),
        ({}, ""),
    ],
)
def test_a_shell_that_completes_names_the_command_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], found: str
) -> None:
    for name in ("_TYPER_COMPLETE_ARGS", "COMP_WORDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"_QIED_COMPLETE": "complete_zsh", **environ}.items():
        monkeypatch.setenv(name, value)
    assert asked_for() == found


@pytest.mark.parametrize(("words", "spared"), [("ps --help", "qied.server"), ("--version", "qied_client.cli.commands")])
def test_what_a_command_does_not_need_is_not_imported(words: str, spared: str) -> None:
    program = f"""
import sys
from qied.cli.main import main
sys.argv = ["qied", *{words.split()!r}]
try:
    main()
finally:
    print([name for name in sys.modules if name.startswith({spared!r})], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout
    assert done.stderr.splitlines()[-1] == "[]"

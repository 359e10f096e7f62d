"""What bash offers when Tab is pressed, by the script that ``--install-completion`` installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from qied_client.protocol import messages as m
from qied_client.recipes import shipped_recipes

Press = Callable[..., list[str]]
_SCRIPT = """
eval "$(_QIED_CLIENT_COMPLETE=source_bash qied-client)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_qied_client_completion qied-client
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environ(modern: Any, plain: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment where ``qied-client`` is a program, whose daemon is the small one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "qied-client"
    program.write_text(f"#!{sys.executable}\nfrom qied_client.cli.main import main\nmain()\n")
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **plain, "PATH": path, "QIED_KEY": str(modern.key), "HOME": str(tmp_path)}


@pytest.fixture
def press_tab(environ: dict[str, str]) -> Press:
    """What bash offers for the last of some words, which may be empty."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")

    def press(*words: str) -> list[str]:
        command = ["bash", "-c", _SCRIPT, "bash", "qied-client", *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
        assert not done.stderr
        return done.stdout.split()

    return press


def test_what_is_said_about_a_name_stays_in_its_line(environ: dict[str, str]) -> None:
    """fish takes each line for an offer."""
    asked = {"_QIED_CLIENT_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked["_TYPER_COMPLETE_ARGS"] = "qied-client batch in --recipe "
    done = subprocess.run("qied-client", env={**environ, **asked}, capture_output=True, text=True, check=False)
    names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert names == [recipe.name for recipe in shipped_recipes()], done.stderr


def test_names_of_the_daemon_and_of_the_client_are_offered(press_tab: Press, modern: Any, tmp_path: Path) -> None:
    modern.listed_loras = [m.LoraInfo("broken", 9, problem="It is."), m.LoraInfo("ink", 9), m.LoraInfo("styles/ink", 9)]
    modern.listed_upscalers = [m.UpscalerInfo("anime", 4), m.UpscalerInfo("photo", 4)]
    assert press_tab("session", "edit", "s", "x", "--lora", "") == ["ink", "styles/ink"]
    assert press_tab("batch", "in", "--upscale", "") == ["4x", "anime", "photo"]
    assert press_tab("edit", "--preset", "") == ["preview", "draft", "final"]
    assert press_tab("batch", "in", "--recipe", "p") == ["people", "poster", "preview"]
    assert press_tab("redraw", "--precision", "f") == ["fp8"]
    assert press_tab("run", "") == [], "bash goes on with the names of files"


def test_without_a_daemon_nothing_is_offered_and_nothing_said(press_tab: Press, tmp_path: Path) -> None:
    assert press_tab("edit", "--key", str(tmp_path / "nowhere.json"), "--lora", "") == []
    assert press_tab("edit", "--key", str(tmp_path / "nowhere.json"), "--mask-mode", "w") == ["white"]

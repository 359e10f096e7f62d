"""The command line as a program: what it prints, where, and with which exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from qied_client.cli.main import main
from qied_client.protocol import messages as m

FORMATS = ("png", "jpeg", "webp", "heif")
PLAIN = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Done:
    returncode: object
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def plain() -> Mapping[str, str]:
    """The environment of a program in 80 columns and without a terminal."""
    return PLAIN


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``qied-client`` with arguments, as a user without a key and without a daemon."""
    for name in ("QIED_KEY", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    own = {"QIED_HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}
    for name, value in {**PLAIN, **own}.items():
        monkeypatch.setenv(name, value)

    def start(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["qied-client", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return Done(left.value.code or 0, *capfd.readouterr())

    return start


@pytest.fixture
def before(tmp_path: Path, picture: bytes) -> Path:
    """The file of a small picture."""
    path = tmp_path / "before.png"
    path.write_bytes(picture)
    return path


@pytest.fixture
def modern(daemon: Any) -> Any:
    """The small daemon, which speaks version 2: it lists its jobs, says what it serves, and how an edit was made."""
    daemon.welcome = replace(daemon.welcome, version=2)
    daemon.listed = []
    daemon.listed_loras = []
    daemon.listed_upscalers = []

    def answer(message: m.Message) -> list[m.Message] | None:
        match message:
            case m.ListJobs():
                rows = [row for row in daemon.listed if message.before is None or row.number < message.before]
                return [m.JobList(message.id, tuple(rows[:14]), more=len(rows) > 14)]
            case m.ListLoras():
                rows = [row for row in daemon.listed_loras if message.after is None or row.name > message.after]
                return [m.LoraList(message.id, tuple(rows[:32]), more=len(rows) > 32)]
            case m.ListUpscalers():
                rows = [row for row in daemon.listed_upscalers if message.after is None or row.name > message.after]
                return [m.UpscalerList(message.id, tuple(rows[:32]), more=len(rows) > 32)]
            case m.Describe():
                return [DESCRIPTION(message.id)]
            case m.Resume() if message.job in daemon.jobs:
                *news, result = daemon._news(daemon.jobs[message.job])
                made = {"steps": 40, "precision": "fp8", "preset": "draft", "schedule": "flow", "true_cfg_scale": 4.0}
                made["warnings"] = ("The prompt is [very] short.",)
                return [m.Resumed(message.id, message.job, "succeeded"), *news, replace(result, **made)]
        return None

    daemon.before = answer
    return daemon


def DESCRIPTION(re: int) -> m.Description:
    presets = (
        m.PresetInfo("preview", 4, 1.0, "", ("lightning-4steps",), "A first look within seconds."),
        m.PresetInfo("draft", 40, 4.0, about="The settings of the model's own card.", default=True),
        m.PresetInfo("final", 50, 4.0, "bf16", about="Meant for BF16."),
    )
    warnings = ("It only echoes.",)
    return m.Description(re, "echo", "Echo model", "2511", "fp8", 1_638_400, 3, 16, FORMATS, presets, 2, warnings)

"""The examples of the README run as they stand."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qied_client import Client
from qied_client.errors import CODES

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_example_runs(
    daemon: Any, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.welcome = replace(daemon.welcome, version=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIED_KEY", str(daemon.key))
    for name in ("before.png", "large.png"):
        Path(name).write_bytes(picture)
    first, *others = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    assert Path("after.png").read_bytes() == picture
    with Client() as names["client"]:
        for example in others:
            exec(example, names)
    assert "queued" in capsys.readouterr().out
    assert {"moon.png", "stars.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_options_that_it_names_are_those_of_a_request() -> None:
    from qied_client.protocol.request import EditRequest

    (options,) = re.findall(r"Options are (.*?)\.", README, re.DOTALL)
    named = set(re.findall(r"`([a-z_]+)`", options))
    assert named == {name for name in vars(EditRequest)["__annotations__"] if name not in ("images", "prompt")}
    assert {"above_cap", "unreachable"} <= set(CODES)

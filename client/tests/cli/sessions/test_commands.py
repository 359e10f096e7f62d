"""``session`` as a program: turns on one picture, what it prints, and with which exit status."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from qied_client.cli.main import main
from qied_client.errors import UnknownBlob
from qied_client.protocol import messages as m

PLAIN = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Done:
    returncode: object
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def daemon(daemon: Any) -> Any:
    daemon.welcome = replace(daemon.welcome, version=2)
    return daemon


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], daemon: Any) -> Run:
    for key, value in {**PLAIN, "QIED_KEY": str(daemon.key)}.items():
        monkeypatch.setenv(key, value)

    def start(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["qied-client", "session", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return Done(left.value.code or 0, *capfd.readouterr())

    return start


@pytest.fixture
def before(tmp_path: Path, picture: bytes) -> Path:
    path = tmp_path / "before.png"
    path.write_bytes(picture)
    return path


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return tmp_path / "after.png"


def test_a_session_from_its_first_picture_to_its_end(run: Run, before: Path, after: Path, picture: bytes) -> None:
    assert run("open", before, "--name", "poster").stdout == "poster: at the first picture\n"
    done = run("edit", "poster", "Make it night.", "-o", after, "--seed", 7)
    assert (done.returncode, done.stdout) == (0, f"{after}  64x64  turn 1  seed 7  0.0 s\n"), done.stderr
    assert done.stderr.splitlines() == ["waiting, place 1", "editing", "downloading"]
    assert after.read_bytes() == picture
    run("edit", "poster", "Add a moon.", "-o", after)
    assert run("open", before, "--name", "poster").stdout == "poster: at turn 2\n"
    assert run("undo", "poster").stdout == "poster: at turn 1\n"
    assert run("undo", "poster").stdout == "poster: at the first picture\n"
    assert run("redo", "poster").stdout == "poster: at turn 1\n"
    assert run("close", "poster").stdout == "poster: closed\n"
    done = run("undo", "poster")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error unknown_session ")


def test_without_a_name_one_is_made_and_printed(run: Run, before: Path) -> None:
    name = json.loads(run("open", before, "--json").stdout)["name"]
    assert re.fullmatch(r"session-[0-9a-f]{20}", name)
    assert run("undo", name).stderr.startswith("error nothing_to_undo ")


def test_every_option_of_an_edit_arrives(run: Run, daemon: Any, before: Path, tmp_path: Path) -> None:
    run("open", before, "--name", "poster")
    options = {
        "--negative": "blur",
        "--seed": 3,
        "--steps": 9,
        "--cfg": 2,
        "--width": 64,
        "--height": 128,
        "--preset": "draft",
        "--precision": "bf16",
        "--lora": "one:0.5",
        "--mask": before,
        "--priority": 2,
        "--job": "mine",
        "--base": 0,
    }
    done = run(
        "edit",
        "poster",
        "x",
        "-o",
        tmp_path / "a.webp",
        "--fit",
        "--preemptible",
        *(part for pair in options.items() for part in pair),
    )
    assert done.returncode == 0
    submit = daemon.wait_for(m.Submit)
    request = submit.request
    assert (submit.job, submit.session, submit.base) == ("mine", "poster", 0)
    assert (request.negative_prompt, request.seed, request.steps, request.true_cfg_scale) == ("blur", 3, 9, 2.0)
    assert (request.width, request.height, request.preset, request.precision) == (64, 128, "draft", "bf16")
    assert [(lora.name, lora.strength) for lora in request.loras] == [("one", 0.5)]
    assert request.mask is not None
    assert (request.on_cap, request.priority, request.output_format) == ("fit", 2, "webp")
    assert request.preemptible


def test_a_result_that_cannot_be_saved_can_be_had_later(run: Run, daemon: Any, before: Path, tmp_path: Path) -> None:
    run("open", before, "--name", "poster")
    place = tmp_path / "a.png"
    daemon.before = lambda message: place.mkdir(exist_ok=True) if isinstance(message, m.Submit) else None
    done = run("edit", "poster", "x", "-o", place, "--job", "mine")
    assert f"session result poster 1 -o {place}" in done.stderr
    place.rmdir()
    assert run("result", "poster", 1, "-o", tmp_path / "a.png").returncode == 0


def test_the_history_shows_what_was_asked_for_and_marks_the_latest_picture(
    run: Run, before: Path, after: Path, daemon: Any
) -> None:
    run("open", before, "--name", "poster")
    for number, prompt in enumerate(("Make it night, with [b]stars[/b].", "Add a moon. " * 9, "x")):
        run("edit", "poster", prompt, "-o", after, "--seed", 2**63 - 1 if number == 2 else number)
    run("undo", "poster")
    turns = daemon.sessions["poster"].turns
    turns[2] = replace(turns[2], state="waiting", finished_ms=0, blob=None)
    lines = run("history", "poster").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.sub(r" +", " ", "\n".join(line.rstrip() for line in lines)) == (
        " turn base state prompt seed when took\n"
        " 0 (the first picture)\n"
        " 1 0 succeeded Make it night, with [b]… 0 1970-06 1.5 s\n"
        "> 2 1 succeeded Add a moon. Add a moon.… 1 1970-06 1.5 s\n"
        " 3 2 waiting x 9223372036854775807 1970-06 -"
    )


def test_the_history_as_json_has_whole_times(run: Run, before: Path, after: Path) -> None:
    run("open", before, "--name", "poster")
    run("edit", "poster", "Make it night.", "-o", after, "--seed", 7, "--job", "mine")
    facts = json.loads(run("history", "poster", "--json").stdout)
    (turn,) = facts.pop("turns")
    assert facts == {"name": "poster", "head": 1}
    assert (turn["prompt"], turn["seed"], turn["job"], turn["base"]) == ("Make it night.", 7, "mine", 0)
    assert turn["accepted_at"] == "1970-06-16T00:01:00+00:00"


def test_the_list_shows_the_last_used_session_first(run: Run, before: Path, after: Path) -> None:
    assert run("list").stdout == "No session is open.\n"
    for name in ("a", "b"):
        run("open", before, "--name", name)
    run("edit", "b", "Make it night.", "-o", after)
    lines = [line.split() for line in run("list").stdout.splitlines()]
    assert lines == [
        ["session", "turns", "at", "used", "prompt"],
        ["b", "1", "1", "1970-06", "Make", "it", "night."],
        ["a", "0", "0", "1970-06", "-"],
    ]
    assert [row["name"] for row in json.loads(run("list", "--json").stdout)] == ["b", "a"]


def test_the_picture_of_any_turn_is_saved(run: Run, before: Path, after: Path, picture: bytes, tmp_path: Path) -> None:
    run("open", before, "--name", "poster")
    first = tmp_path / "first.png"
    assert run("result", "poster", "0", "-o", first).stdout == f"{first}  64x64  turn 0\n"
    assert first.read_bytes() == picture
    run("edit", "poster", "x", "-o", after, "--seed", 7)
    facts = json.loads(run("result", "poster", "-o", after, "--json").stdout)
    assert (facts["turn"], facts["seed"], facts["path"]) == (1, 7, str(after))
    done = run("result", "poster", "9", "-o", after)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "error unknown_turn Session 'poster' has no turn 9.",
    )
    assert run("result", "poster", "-o", tmp_path / "absent" / "a.png").returncode == 2


@pytest.mark.parametrize("command", ["undo", "redo", "history", "close", "result", "edit"])
def test_a_session_that_does_not_exist_is_said_so(run: Run, after: Path, command: str) -> None:
    rest = {"edit": ("x", "-o", after), "result": ("-o", after)}.get(command, ())
    done = run(command, "absent", *rest)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error unknown_session " in done.stderr


def test_a_failed_edit_leaves_the_session_where_it_was(run: Run, daemon: Any, before: Path, after: Path) -> None:
    run("open", before, "--name", "poster")

    def failed(message: m.Message) -> list[m.Message] | None:
        if isinstance(message, m.Resume):
            turns = daemon.sessions["poster"].turns
            turns[-1] = replace(turns[-1], state="failed", blob=None)
            outcome = m.Result(message.job, 1, "failed", code="job_failed", message="The engine failed.")
            return [m.Resumed(message.id, message.job, "failed"), outcome]
        return None

    daemon.before = failed
    done = run("edit", "poster", "x", "-o", after)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error job_failed The engine failed.")
    assert run("open", before, "--name", "poster").stdout == "poster: at the first picture\n"


def test_a_session_whose_first_picture_is_refused_is_not_opened(run: Run, daemon: Any, before: Path) -> None:
    refusal = UnknownBlob("There is no such blob.")
    daemon.before = lambda message: [m.Failure.of(refusal, message.id)] if isinstance(message, m.Open) else None
    done = run("open", before, "--name", "poster")
    assert (done.returncode, done.stdout) == (1, "")


def test_help_fits_80_columns(run: Run) -> None:
    for command in ([], ["edit"], ["history"], ["result"]):
        done = run(*command, "--help")
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 80

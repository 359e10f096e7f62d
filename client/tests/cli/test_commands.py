"""The command line as a program: what it prints, where, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client.errors import AboveCap, JobCancelled
from qied_client.protocol import messages as m

PROGRAM = "from qied_client.cli.main import main; main()"


def test_an_edit_saves_the_picture_and_says_where(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    out = tmp_path / "[b]after[1].png"
    done = run("edit", before, "Make it night.", "-o", out, "--seed", 7, "--lora", "one:0.5", "--key", daemon.key)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}  64x64  seed 7  0.0 s\n"
    assert done.stderr.splitlines() == ["uploading", "waiting, place 1", "editing", "downloading"]
    assert Image.open(io.BytesIO(out.read_bytes())).size == (64, 64)
    assert daemon.wait_for(m.Submit).request.loras[0].strength == 0.5
    with pytest.raises(queue.Empty):
        while not isinstance(daemon.heard.get_nowait(), m.Release):
            pass  # a daemon of version 1 would forget what is here


def test_an_edit_prints_json(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--seed", 7, "--json", "--key", daemon.key)
    facts = json.loads(done.stdout)
    assert facts["path"] == str(tmp_path / "a.png")
    assert (facts["seed"], facts["width"], facts["timings"]) == (7, 64, {"held_ms": 12.5})


def test_ps_shows_the_daemon(run: Any, daemon: Any) -> None:
    done = run("ps", "--key", daemon.key)
    assert done.returncode == 0
    assert done.stdout.startswith("echo in bf16, up 0.0 s\n0 running, 0 waiting")
    assert json.loads(run("ps", "--json", "--key", daemon.key).stdout)["model"] == "echo"


def test_a_job_can_be_cancelled(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    run("edit", before, "x", "-o", tmp_path / "a.png", "--job", "mine", "--key", daemon.key)
    done = run("cancel", "mine", "--key", daemon.key)
    assert (done.returncode, done.stdout) == (0, "mine: finished\n")
    done = run("cancel", "none", "--key", daemon.key)
    assert done.returncode == 1
    assert done.stderr == ("error unknown_job You have no job 'none'.\n  do    It was never submitted.\n")


def test_without_a_key_file_it_says_how_to_get_one(run: Any, tmp_path: Path) -> None:
    done = run("ps")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"error credentials_missing There is no key file {tmp_path / 'home' / 'local.key.json'}, and no login.",
        "  do    For a daemon on another machine, ask its owner for a key file ('qied keys add NAME' there), then: "
        "qied-client login FILE",
        "        On this machine, start one with: qied serve",
    ]
    assert done.stdout == ""


def test_a_daemon_that_is_not_there_is_said_so(run: Any, daemon: Any, free_address: str) -> None:
    daemon.write_key(free_address)
    done = run("ps", "--key", daemon.key)
    assert done.returncode == 3
    said, remedy = done.stderr.splitlines()
    assert said == f"error daemon_unreachable Nothing answers at {free_address}."
    assert remedy.startswith("  do    Is it running ('qied serve' on its machine)?")


def test_a_key_that_is_not_enrolled_is_said_so(run: Any, daemon: Any) -> None:
    daemon.enrolled.clear()
    done = run("ps", "--key", daemon.key)
    assert done.returncode == 3
    assert done.stderr.startswith("error handshake_refused ")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("after.gif", "after.gif: results are saved as PNG, WebP or JPEG."),
        ("after", "after: results are saved as PNG, WebP or JPEG."),
        ("absent/after.png", "there is no folder"),
    ],
)
def test_a_place_that_cannot_hold_the_result_is_refused_before_anything_is_sent(
    run: Any, daemon: Any, before: Path, tmp_path: Path, out: str, said: str
) -> None:
    done = run("edit", before, "x", "-o", tmp_path / out, "--key", daemon.key)
    assert done.returncode == 2
    assert "error invalid_request" in done.stderr
    assert said in done.stderr
    assert daemon.heard.empty()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "--steps: must be 1 to 200, not 0."),
        (["--width", "64"], "--width and --height: one is missing."),
        (["--lora", "a:strong"], "--lora a:strong: 'strong' is not a number."),
        (["--lora", "../a"], "--lora: must be"),
        (["--mask", "absent.png"], "absent.png: No such file or directory."),
        (["--job", "not a name"], "--job: must be 1 to 64 letters"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_named(
    run: Any, daemon: Any, before: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--key", daemon.key, *arguments)
    assert done.returncode == 2
    assert f"error invalid_request {said}" in done.stderr


def test_what_is_no_picture_is_named(run: Any, daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    done = run("edit", tmp_path / "text.png", "x", "-o", tmp_path / "a.png", "--key", daemon.key)
    assert done.returncode == 2
    assert done.stderr.startswith("error unsupported_picture ")


def test_a_cancelled_edit_leaves_as_an_interrupted_program_does(
    run: Any, daemon: Any, before: Path, tmp_path: Path
) -> None:
    daemon.before = lambda message: (
        [m.Failure.of(JobCancelled("The job was cancelled."), message.id)] if isinstance(message, m.Resume) else None
    )
    assert run("edit", before, "x", "-o", tmp_path / "a.png", "--key", daemon.key).returncode == 130
    assert not (tmp_path / "a.png").exists()


def test_a_refusal_of_the_daemon_is_shown_with_its_remedy(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    refusal = AboveCap("4096x4096 is above this machine's cap.", "Ask for 1024x1024, or give --fit.")
    daemon.before = lambda message: [m.Failure.of(refusal, message.id)] if isinstance(message, m.Quote) else None
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--key", daemon.key)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "  do    Ask for 1024x1024, or give --fit."


def test_help_fits_80_columns_and_names_every_option(run: Any, plain: Mapping[str, str]) -> None:
    environ = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ} | dict(plain)
    command = [sys.executable, "-c", PROGRAM, "edit", "--help"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for option in (
        "--out",
        "--negative",
        "--seed",
        "--steps",
        "--cfg",
        "--preset",
        "--mask",
        "--fit",
        "--job",
        "--key",
    ):
        assert option in done.stdout
    everything = run("--help").stdout
    assert all(command in everything for command in ("edit", "ps", "cancel"))


def test_without_the_extra_it_says_what_to_install() -> None:
    script = f"import sys; sys.modules['typer'] = None; {PROGRAM}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The command line needs more packages: {sys.executable} -m pip install 'typer>=")

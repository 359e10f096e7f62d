"""What ``edit`` does with its jobs: variations, warnings, and how each end that is not a picture is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client.aio.client import seed_of
from qied_client.errors import BlobDamaged, JobFailed, PictureUnreadable, UnknownBlob
from qied_client.protocol import messages as m

PROGRAM = "import sys; sys.argv[0] = 'qied-client'; from qied_client.cli.main import main; main()"


def test_the_last_line_tells_how_the_picture_was_made_and_warnings_are_on_stderr(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    done = run("edit", before, "x", "-o", out, "--seed", 7, "--key", modern.key)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}  64x64  [FP8]  draft, 40 steps  seed 7  0.0 s\n"
    assert done.stderr.splitlines()[-1] == "warning: The prompt is [very] short."
    assert modern.wait_for(m.Release).keep is True


def test_a_picture_that_is_only_enlarged_has_no_step_and_no_seed(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    usual = modern.before

    def nothing_drawn(message: m.Message) -> Any:
        answers = usual(message)
        return answers and [
            replace(each, steps=1, precision="", preset="", seed=0) if isinstance(each, m.Result) else each
            for each in answers
        ]

    modern.before = nothing_drawn
    out = tmp_path / "a.png"
    done = run("upscale", before, "-o", out, "--key", modern.key)
    assert done.stdout == f"{out}  64x64  0.0 s\n", done.stderr


def test_json_has_everything_of_the_result(run: Any, modern: Any, before: Path, tmp_path: Path) -> None:
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--job", "mine", "--key", modern.key, "--json")
    facts = json.loads(done.stdout)
    made = {"steps": 40, "precision": "fp8", "preset": "draft", "schedule": "flow", "true_cfg_scale": 4.0}
    assert facts.items() >= made.items()
    assert (facts["job"], facts["seed"]) == ("mine", seed_of("mine"))
    assert facts["warnings"] == ["The prompt is [very] short."]
    assert "bytes" not in facts


def test_variations_have_seeds_one_after_the_other(run: Any, modern: Any, before: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    done = run("edit", before, "x", "-o", out, "-n", 3, "--seed", 7, "--job", "mine", "--key", modern.key, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["job"], row["seed"], Path(row["path"]).name) for row in rows] == [
        ("mine-1", 7, "a-1.png"),
        ("mine-2", 8, "a-2.png"),
        ("mine-3", 9, "a-3.png"),
    ]
    assert {path.name for path in tmp_path.glob("a*")} == {"a-1.png", "a-2.png", "a-3.png"}
    assert "3 of 3 downloading" in done.stderr


def test_the_seed_may_be_in_the_name(run: Any, modern: Any, before: Path, tmp_path: Path) -> None:
    run("edit", before, "x", "-o", tmp_path / "{seed}.png", "-n", 2, "--seed", 7, "--key", modern.key)
    assert (tmp_path / "7.png").exists() and (tmp_path / "8.png").exists()


def test_a_jpeg_and_the_meaning_of_a_mask_are_asked_of_the_daemon(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    options = ["--mask", before, "--mask-mode", "transparent", "--quality", 60]
    run("edit", before, "x", "-o", tmp_path / "a.jpg", *options, "--key", modern.key)
    request = modern.wait_for(m.Submit).request
    assert (request.output_format, request.output_quality, request.mask_mode) == ("jpeg", 60, "transparent")


def test_a_jpeg_of_an_old_daemon_is_made_here(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    sizes = []
    for quality in (95, 20):
        out = tmp_path / f"{quality}.jpg"
        done = run("edit", before, "x", "-o", out, "--quality", quality, "--key", daemon.key)
        assert done.returncode == 0, done.stderr
        assert daemon.wait_for(m.Submit).request.output_format == "png"
        with Image.open(out) as picture:
            assert picture.format == "JPEG"
        sizes.append(out.stat().st_size)
    assert sizes[0] > sizes[1]


def failing(modern: Any, job: str, error: Any) -> None:
    usual = modern.before

    def answer(message: m.Message) -> Any:
        if isinstance(message, m.Resume) and message.job == job:
            failed = m.Result(job, 1, "failed", code=error.code, message=error.message, remedy=error.remedy)
            return [m.Resumed(message.id, job, "failed"), failed]
        return usual(message)

    modern.before = answer


def test_what_succeeds_of_several_is_saved_and_the_failure_is_told(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    failing(modern, "mine-2", JobFailed("The engine gave up.", "Try fewer steps."))
    out = tmp_path / "a.png"
    done = run("edit", before, "x", "-o", out, "-n", 3, "--job", "mine", "--key", modern.key)
    assert done.returncode == 1
    assert {path.name for path in tmp_path.glob("a*")} == {"a-1.png", "a-3.png"}
    assert done.stderr.splitlines()[-5:] == [
        f"saved {tmp_path / 'a-1.png'}",
        f"saved {tmp_path / 'a-3.png'}",
        "error job_failed The engine gave up.",
        "  do    Try fewer steps.",
        "  job   mine-2",
    ]


def test_a_picture_that_does_not_arrive_is_had_by_the_command_that_is_named(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    usual = modern.before
    modern.before = lambda message: (
        [m.Failure.of(UnknownBlob("There is no such blob.", "Ask again."), message.id)]
        if isinstance(message, m.Get)
        else usual(message)
    )
    out = tmp_path / "my a.png"
    done = run("edit", before, "x", "-o", out, "--job", "mine", "--key", modern.key)
    assert done.returncode == 1
    assert f"qied-client result mine -o '{out}'" in done.stderr


def test_a_picture_that_cannot_be_read_is_not_to_be_fetched_again(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    failing(modern, "mine", PictureUnreadable("The PNG picture is truncated.", "Copy the picture again."))
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--job", "mine", "--key", modern.key)
    assert done.stderr.splitlines()[-3:] == [
        "error picture_unreadable The PNG picture is truncated.",
        "  do    Copy the picture again.",
        "  job   mine",
    ]


def test_which_of_several_files_is_not_a_picture_is_said(run: Any, modern: Any, before: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "b.txt", tmp_path / "c.png"
    text.write_text("no picture")
    empty.touch()
    for wrong, said in ((text, "The file is a text file"), (empty, "The picture is empty.")):
        done = run("edit", before, wrong, "x", "-o", tmp_path / "a.png", "--key", modern.key)
        assert f"error unsupported_picture {wrong}: {said}" in done.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("cancelled", "cancelled mine\n"),
        ("finished", "mine had finished; get its picture: qied-client result mine -o {}\n"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT")
def test_ctrl_c_says_what_became_of_the_edit(modern: Any, before: Path, tmp_path: Path, answer: str, said: str) -> None:
    usual = modern.before

    def hold(message: m.Message) -> Any:
        if isinstance(message, m.Resume):
            return [m.Resumed(message.id, message.job, "running"), m.Event(message.job, 1, "started", steps=4)]
        if isinstance(message, m.Cancel):
            return [m.Cancelling(message.id, message.job, answer, "cancelled")]
        return usual(message)

    modern.before = hold
    out = tmp_path / "a.png"
    words = ["edit", before, "x", "-o", out, "--job", "mine", "--key", modern.key]
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None and child.stdout is not None
        try:
            assert "started\n" in iter(child.stderr.readline, "")
            child.send_signal(signal.SIGINT)
            printed, told = child.communicate(timeout=60)
        finally:
            child.kill()
        assert (printed, told) == ("", said.format(out))
        assert child.returncode == 130
    modern.wait_for(m.Cancel)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photo.png"], "error invalid_request The prompt is missing: photo.png is a picture."),
        (["photo.png", "x"], "error invalid_request The output file is missing."),
        ([], "error invalid_request A picture and a prompt are missing."),
    ],
)
def test_what_is_missing_is_told_before_a_daemon_is_asked(run: Any, words: list[str], said: str) -> None:
    done = run("edit", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == said


def test_the_remedy_of_the_library_gives_way_to_the_command(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    usual = modern.before
    modern.before = lambda message: (
        [m.Failure.of(BlobDamaged("The disk has changed it.", "Edit again."), message.id)]
        if isinstance(message, m.Get)
        else usual(message)
    )
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--job", "mine", "--key", modern.key)
    assert done.returncode == 1
    assert f"qied-client result mine -o {tmp_path / 'a.png'}" in done.stderr
    assert "client.job" not in done.stderr

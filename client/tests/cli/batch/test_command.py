"""``batch`` and ``recipes`` as a person runs them, against the small daemon."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client.cli.batch.command import names_of, told_apart
from qied_client.cli.batch.starting import start_of
from qied_client.errors import InvalidRequest
from qied_client.protocol import messages as m
from qied_client.recipes import recipe_named

Run = Any


@pytest.fixture
def ready(modern: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The small daemon, found by its key, which says what stages it has."""
    monkeypatch.setenv("QIED_KEY", str(modern.key))
    answer = modern.before

    def with_stages(message: m.Message) -> Any:
        if isinstance(message, m.Describe):
            (described,) = answer(message)
            return [m.Description(**{**vars(described), "stages": ("mask", "edit", "save")})]
        return answer(message)

    modern.before = with_stages
    return modern


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(folder / f"p{number}.png")
    return folder


def test_a_file_of_a_folder_that_is_not_a_picture_is_named_once(
    run: Run, ready: Any, folder: Path, tmp_path: Path
) -> None:
    wrong = folder / "p3.png"
    wrong.write_text("no picture")
    done = run("batch", folder, "night", "-o", f"{tmp_path}/out/")
    assert f"error invalid_request {wrong}: The file is a text file" in done.stderr


def test_one_edit_is_counted_as_one(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    assert "1 edit of 1 row" in run("batch", folder / "p0.png", "night", "-o", f"{tmp_path}/out/").stderr


def test_a_folder_becomes_files_a_report_and_a_contact_sheet(
    run: Run, ready: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(
        "batch", folder, "night", "-o", out / "{stem}.png", "-o", out / "{stem}.webp", "--mask", folder / "{stem}.png"
    )
    assert done.returncode == 0, done.stderr
    assert "3 edits of 3 rows" in done.stderr and "3 made" in done.stderr
    assert done.stderr.count("warning: The prompt is [very] short. (3 edits)") == 1
    for name in ("p0.png", "p2.webp", "contact-sheet.jpg"):
        with Image.open(out / name) as image:
            image.load()
    report = json.loads((out / "report.json").read_text())
    assert (report["made"], report["failed"], report["finished"], report["precision"]) == (3, 0, True, "fp8")
    assert [row["name"] for row in report["edits"]] == ["p0", "p1", "p2"]
    assert report["edits"][0]["files"] == [str(out / "p0.png"), str(out / "p0.webp")]
    request = next(iter(ready.jobs.values())).request
    assert request.preemptible and not request.previews and request.mask is not None
    again = run(
        "batch", folder, "night", "-o", out / "{stem}.png", "-o", out / "{stem}.webp", "--mask", folder / "{stem}.png"
    )
    assert again.returncode == 0 and "0 made, 3 done before" in again.stderr


def test_a_failure_has_a_line_and_the_status_says_so(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    answer = ready.before

    def fail(message: m.Message) -> Any:
        if isinstance(message, m.Resume) and ready.jobs[message.job].request.seed == 2:
            ended = {"code": "job_failed", "message": "It broke.", "remedy": "Try again."}
            return [m.Resumed(message.id, message.job, "failed"), m.Result(message.job, 1, "failed", **ended)]
        return answer(message)

    ready.before = fail
    rows = tmp_path / "rows.csv"
    rows.write_text("picture,prompt,seed,name\nin/p0.png,x,1,one\nin/p1.png,x,2,two\n")
    done = run("batch", rows, "-o", tmp_path / "out" / "{name}.png")
    assert done.returncode == 1
    assert "failed row 2, two: job_failed It broke. Try again." in done.stderr
    assert "1 made, 1 failed" in done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["edits"][1]["error"] == {"code": "job_failed", "message": "It broke.", "remedy": "Try again."}


def test_a_dry_run_shows_rows_and_plan_and_sends_nothing(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    done = run("batch", folder, "night", "-o", tmp_path / "out" / "{stem}.png", "-n", "2", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "6 edits of 3 rows: edit -> save" in done.stdout and "p2.png" in done.stdout and "bf16" in done.stdout
    assert not ready.jobs and not ready.blobs and not (tmp_path / "out").exists()
    as_json = run("batch", folder, "night", "-o", tmp_path / "out" / "{stem}.png", "--dry-run", "--json")
    assert json.loads(as_json.stdout) == {"rows": 3, "edits": 3, "done": 0, "expected_ms": 3}


def test_a_dry_run_names_no_seed_that_is_not_known_yet(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    own = run("batch", str(folder), "x", "-o", f"{tmp_path}/{{seed}}{{stem}}.png", "--dry-run")
    assert "{seed}p0.png" in own.stdout.replace("\n", "").replace(" ", ""), own.stdout
    given = run("batch", str(folder), "x", "-o", f"{tmp_path}/{{seed}}{{stem}}.png", "--dry-run", "--seed", "77")
    assert "77p0.png" in given.stdout.replace("\n", "").replace(" ", ""), given.stdout


def test_a_dry_run_counts_only_what_would_run(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    command = ("batch", folder, "night", "-o", tmp_path / "out" / "{stem}.png")
    assert run(*command).returncode == 0
    (tmp_path / "out" / "p1.png").unlink()
    done = run(*command, "--dry-run")
    assert "1 edits of 3 rows, 2 done before: edit -> save" in done.stdout, done.stderr
    assert json.loads(run(*command, "--dry-run", "--json").stdout)["edits"] == 1
    assert "1 made, 2 done before" in run(*command).stderr


def test_a_dry_run_without_a_daemon_shows_the_rows_all_the_same(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("batch", folder, "night", "-o", tmp_path / "out" / "{stem}.png", "--dry-run")
    assert done.returncode == 0 and "3 edits of 3 rows" in done.stdout
    assert "warning: no daemon says what this takes" in done.stderr


def test_a_recipe_names_the_formats_and_the_options(run: Run, ready: Any, folder: Path, tmp_path: Path) -> None:
    done = run("batch", folder, "night", "-o", f"{tmp_path / 'out'}/", "--recipe", "preview")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/p1.webp").is_file()
    request = next(iter(ready.jobs.values())).request
    assert (request.preset, request.output_format, request.output_quality) == ("preview", "webp", 80)
    mine = tmp_path / "mine.toml"
    mine.write_text('[[stage]]\ndo = "mask"\nrequired = true\n[[stage]]\ndo = "edit"\nprompt = "own"\non_cap = "fit"\n')
    refused = run("batch", folder, "-o", tmp_path / "out2" / "{stem}.png", "--recipe", mine)
    assert refused.returncode == 2 and "the recipe needs a mask" in refused.stderr
    masked = run("batch", folder, "-o", tmp_path / "out2" / "{stem}.png", "--recipe", mine, "--mask", folder / "p0.png")
    assert masked.returncode == 0, masked.stderr
    request = [job.request for job in ready.jobs.values()][-1]
    assert (request.prompt, request.on_cap) == ("own", "fit")


def test_a_recipe_is_for_one_edit_as_well(run: Run, ready: Any, before: Path, tmp_path: Path) -> None:
    done = run("edit", before, "night", "-o", tmp_path / "a.png", "--recipe", "draft", "--steps", "3", "--preemptible")
    assert done.returncode == 0, done.stderr
    request = next(iter(ready.jobs.values())).request
    assert (request.preset, request.steps, request.preemptible) == ("draft", 3, True)
    mine = tmp_path / "mine.toml"
    mine.write_text('[[stage]]\ndo = "edit"\n[[stage]]\ndo = "upscale"\nfactor = 4\n')
    refused = run("edit", before, "night", "-o", tmp_path / "a.png", "--recipe", mine)
    assert refused.returncode == 2 and "stage 'upscale', which this daemon does not have" in refused.stderr


def test_a_batch_whose_edits_all_fail_alike_ends_early(run: Run, ready: Any, tmp_path: Path) -> None:
    answer = ready.before

    def fail(message: m.Message) -> Any:
        if isinstance(message, m.Resume):
            ended = {"code": "out_of_memory", "message": "No.", "remedy": ""}
            return [m.Resumed(message.id, message.job, "failed"), m.Result(message.job, 1, "failed", **ended)]
        return answer(message)

    ready.before = fail
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    done = run("batch", tmp_path / "a.png", "night", "-o", tmp_path / "out" / "{stem}.png", "-n", "60")
    assert done.returncode == 1 and "the first 20 edits failed alike" in done.stderr
    assert 20 <= len(ready.jobs) <= 30


def test_the_recipes_are_listed(run: Run) -> None:
    done = run("recipes")
    assert "preview  edit -> save" in done.stdout
    assert [row["name"] for row in json.loads(run("recipes", "--json").stdout)] == [
        "draft",
        "final",
        "people",
        "poster",
        "preview",
    ]


NOW = datetime(2026, 11, 30, 21, 30).astimezone()


def test_a_clock_time_is_the_next_one_and_a_moment_must_come() -> None:
    assert start_of("22:00", NOW) == NOW + timedelta(minutes=30)
    assert start_of("6:15", NOW).day == 1
    assert start_of("2026-12-24T22:00", NOW).month == 12
    for text in ("25:00", "tonight", "2026-11-30T20:00"):
        with pytest.raises(InvalidRequest, match="--at"):
            start_of(text, NOW)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has one time zone for all programs")
def test_a_clock_time_is_that_of_the_clock_also_when_it_changes_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        before = datetime(2026, 10, 24, 23, 0).astimezone()  # clocks go back at 3:00
        assert start_of("22:00", before).isoformat() == "2026-10-25T22:00:00+01:00"
        assert start_of("2026-12-24T22:00", before).isoformat() == "2026-12-24T22:00:00+01:00"
        before = datetime(2027, 3, 27, 23, 0).astimezone()  # and forth at 2:00: there is no 2:30
        assert start_of("2:30", before).isoformat() == "2027-03-28T03:30:00+02:00"
        assert start_of("22:00", before).isoformat() == "2027-03-28T22:00:00+02:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_last_word_is_the_prompt_unless_it_names_pictures(tmp_path: Path, before: Path) -> None:
    assert told_apart([str(tmp_path), "night"]) == ([str(tmp_path)], "night")
    assert told_apart(["rows.csv"]) == (["rows.csv"], "")
    assert told_apart([str(before), f"{tmp_path}/*.png"]) == ([str(before), f"{tmp_path}/*.png"], "")
    assert told_apart([str(before), "why? because"])[1] == "why? because"
    for words in ([], ["night"]):
        with pytest.raises(InvalidRequest):
            told_apart(words)


def test_a_recipes_formats_go_behind_a_name_without_a_suffix() -> None:
    preview = recipe_named("preview")
    assert names_of(["out/{stem}"], 1, None, preview).patterns == ["out/{stem}.webp"]
    own = names_of(["out/{stem}.jpg"], 1, None, preview)
    assert (own.patterns, own.quality) == (["out/{stem}.jpg"], 80)
    assert names_of(["out/{stem}.png"], 1, None, preview).quality is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("in", "x", "-o", "out/{index}.png"), "{index} starts from 1"),
        (("in", "in", "x", "-o", "out/{stem}.png"), "One folder can be watched"),
        (("in", "-o", "out/{stem}.png"), "The prompt is missing."),
        (("in", "x", "-o", "in/{stem}.png"), "the results would lie among the pictures"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("batch", *words, "--watch")
    assert done.returncode == 2 and says in done.stderr

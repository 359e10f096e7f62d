import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qied_client.cli.daemon.jobs import jobs_table
from qied_client.job_status import JobSummary
from qied_client.protocol import messages as m
from rich.console import Console

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = 60_000


def ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)


def row(number: int, **fields: Any) -> m.JobInfo:
    job = m.JobInfo(
        f"job-{number:020}", number, "succeeded", "Make it [b]night[/],\nwith stars and a moon above the sea.",
        2**31 - 1, 40, 1024, 1024, "fp8", "draft", ms(NOON) - MINUTE, ms(NOON),
    )  # fmt: skip
    return replace(job, **fields)


def shown(rows: list[m.JobInfo], width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(jobs_table([JobSummary.of_info(row) for row in rows], NOON, width))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_row_fits_80_columns_with_its_whole_id() -> None:
    running = row(3, state="running", step=12, steps=200, finished_ms=0)
    lines = shown([running, row(2, fetched=True), row(1, finished_ms=ms(datetime(2026, 11, 2, 9, tzinfo=UTC)))])
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["state", "prompt", "seed", "time", "size", "job"]
    assert lines[1].startswith("running 12/200 Make it") and lines[1].endswith(
        "11:59 1024x1024 job-00000000000000000003"
    )
    assert lines[2].startswith("fetched ") and " 2147483647  12:00 " in lines[2]
    assert lines[3].startswith("succeeded") and " 02 Nov " in lines[3]


def test_a_long_id_is_whole_and_markup_is_text() -> None:
    lines = shown([row(1, job="x" * 64, seed=2**63 - 1)])
    assert max(map(len, lines)) <= 80
    assert "".join(line[line.rfind(" ") + 1 :] for line in lines[1:]).count("x") == 64
    assert "Make it [b]night[/]" in shown([row(1)], width=120)[1]


def test_long_ids_cost_sizes_and_seeds_before_the_prompt() -> None:
    of_a_batch = shown([row(1, job="batch-8cc3e7b516-15bf5a33b551f52cb6277f46")])
    assert of_a_batch[0].split() == ["state", "prompt", "seed", "time", "job"]
    assert of_a_batch[1].startswith("succeeded Make it [b…") and len(of_a_batch) == 2
    assert shown([row(1, job="j" * 48)])[0].split() == ["state", "prompt", "time", "job"]


def test_the_newest_20_are_listed_and_the_rest_is_named(run: Any, modern: Any) -> None:
    modern.listed = [row(number) for number in range(30, 0, -1)]
    done = run("jobs", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (len(lines), lines[-1]) == (22, "and older ones: qied-client jobs --all")
    assert [line.split()[-1] for line in lines[1:-1]] == [row(number).job for number in range(30, 10, -1)]
    assert len(run("jobs", "--all", "--key", modern.key).stdout.splitlines()) == 31
    rows = json.loads(run("jobs", "--all", "--json", "--key", modern.key).stdout)
    assert (len(rows), rows[0]["id"], rows[0]["fetched"]) == (30, row(30).job, False)


def test_no_jobs_are_said_so(run: Any, modern: Any) -> None:
    assert run("jobs", "--key", modern.key).stdout.split("\n")[-2] == "The daemon keeps none of your edits."


def test_ps_names_results_that_nobody_has_fetched(run: Any, modern: Any) -> None:
    modern.listed = [row(4, state="running"), row(3), row(2, fetched=True), row(1, state="failed")]
    done = run("ps", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    title = lines.index("your results that were not fetched yet")
    assert lines[title + 2].endswith(row(3).job)
    assert lines[title + 3 :] == ["get one: qied-client result JOB -o out.png"]
    rows = json.loads(run("ps", "--json", "--key", modern.key).stdout)["not_fetched"]
    assert [job["id"] for job in rows] == [row(3).job]


def test_an_older_daemon_is_said_so(run: Any, daemon: Any) -> None:
    done = run("jobs", "--key", daemon.key)
    assert done.returncode == 3
    assert done.stderr.startswith("error version_mismatch ")


def test_a_result_is_saved_again_and_marked_as_fetched(run: Any, modern: Any, before: Path, tmp_path: Path) -> None:
    run("edit", before, "x", "-o", tmp_path / "a.png", "--job", "mine", "--key", modern.key)
    (tmp_path / "a.png").unlink()
    modern.wait_for(m.Release)
    done = run("result", "mine", "-o", tmp_path / "b.png", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'b.png'}  64x64  [FP8]  draft, 40 steps  seed ")
    assert "downloading" in done.stderr, "progress"
    assert (tmp_path / "b.png").read_bytes() == before.read_bytes()
    assert modern.wait_for(m.Release).keep is True


def test_a_result_that_is_not_there_is_said_so(run: Any, modern: Any, tmp_path: Path) -> None:
    done = run("result", "none", "-o", tmp_path / "b.png", "--key", modern.key)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error unknown_job You have no job 'none'.")


def test_a_place_is_checked_before_the_daemon_is_asked(run: Any, modern: Any, tmp_path: Path) -> None:
    assert run("result", "mine", "-o", tmp_path / "absent" / "b.png", "--key", modern.key).returncode == 2
    assert modern.heard.empty()


def test_released_jobs_are_deleted_and_the_others_are_named(
    run: Any, modern: Any, before: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        run("edit", before, "x", "-o", tmp_path / "a.png", "--job", name, "--key", modern.key)
        modern.wait_for(m.Release)
    done = run("release", "one", "none", "two", "--key", modern.key)
    assert done.returncode == 1
    assert done.stdout == "one: released\ntwo: released\n"
    assert done.stderr.startswith("error unknown_job You have no job 'none'.")
    assert [modern.wait_for(m.Release).keep for _ in range(3)] == [False] * 3

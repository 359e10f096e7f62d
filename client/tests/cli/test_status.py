import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.cli.status import seconds, show_status
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from rich.console import Console

GIB = 1024**3
READY = m.WorkerRow(
    "gpu-0",
    "ready",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    budget=24 * GIB,
    weights=18 * GIB,
    sessions=6 * GIB // 10,
    arena=24 * GIB // 10,
    free=3 * GIB,
    restarts=2,
)
STARTING = m.WorkerRow("gpu-1", "starting", "", 0, 0, 0, 0, 0, 0)
RUNNING = m.JobRow("ann", "job-0123456789abcdef0123", "running", 12, 40, 1024, 768, None, None)
WAITING = m.JobRow("bo", None, "waiting", 0, 40, 1536, 1024, 3, 12_300)
SESSION = m.SessionRow("ann", "session-0123456789abcdef0123", 3, 65_000)
REPORT = m.StatusReport(
    re=1,
    model="Qwen-Image-Edit-2511",
    precision="fp8-storage",
    uptime_ms=12_345_678,
    clients=2,
    waiting=14,
    running=1,
    stored=1,
    blob_bytes=GIB // 2,
    blob_limit=20 * GIB,
    draining=False,
    workers=(READY, STARTING),
    jobs=(RUNNING, WAITING),
    sessions=(SESSION,),
)
WORST = m.StatusReport(
    re=1,
    model="M" * limits.NAME_CHARS,
    precision="p" * limits.NAME_CHARS,
    uptime_ms=10**11,
    clients=10**6,
    waiting=10**6,
    running=10**6,
    stored=10**6,
    blob_bytes=10**14,
    blob_limit=10**14,
    draining=True,
    workers=(m.WorkerRow("w" * 64, "draining", "d" * 128, 10**14, 10**14, 10**14, 10**14, 10**14, 10**6, "t" * 400),)
    * 8,
    jobs=(m.JobRow("u" * 64, "j" * 64, "succeeded", 200, 200, 8192, 8192, 10**6, 10**10),) * limits.STATUS_ROWS,
    sessions=(m.SessionRow("u" * 64, "s" * 64, 10**6, 10**11),) * limits.STATUS_ROWS,
)


def shown(report: m.StatusReport) -> list[str]:
    stream = io.StringIO()
    show_status(Console(file=stream, width=80, highlight=False), report)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_report_reads_well_in_80_columns_without_colour() -> None:
    assert shown(REPORT) == [
        "Qwen-Image-Edit-2511 in fp8-storage, up 3.4 h",
        "1 running, 14 waiting, 1 result kept, 2 clients, 0.5 of 20 GiB of pictures",
        "",
        "worker  state     restarts  device",
        "gpu-0   ready            2  NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "gpu-1   starting         0  -",
        "",
        "memory     budget    weights   sessions     arena      free",
        "gpu-0   24.00 GiB  18.00 GiB  614.4 MiB  2.40 GiB  3.00 GiB",
        "",
        "       W weights, S sessions, A arena, . free",
        "gpu-0  [" + "W" * 45 + "S" + "A" * 6 + "." * 8 + "]",
        "",
        "user state   size      step  queue     job",
        "ann  running 1024x768  12/40           job-0123456789abcdef0123",
        "bo   waiting 1536x1024 0/40  3, 12.3 s -",
        "                                       and 13 more",
        "",
        "user  turns   idle  session",
        "ann       3  1 min  session-0123456789abcdef0123",
    ]


def test_what_keeps_a_worker_from_working_is_shown_whole() -> None:
    why = "CUDA does not start. Reload the driver's module: " + "x" * 100
    report = replace(REPORT, workers=(READY, replace(STARTING, trouble=why)))
    lines = shown(report)
    assert max(map(len, lines)) <= 80
    head = next(n for n, line in enumerate(lines) if "what keeps it from working" in line)
    said = "".join(line[8:] + " " * (len(line) < 80) for line in lines[head + 1 : lines.index("", head)])
    assert lines[head + 1].startswith("gpu-1")
    assert said.replace(" ", "") == why.replace(" ", "")


@pytest.mark.parametrize("report", [REPORT, WORST], ids=["usual", "largest"])
def test_nothing_is_wider_than_80_columns(report: m.StatusReport) -> None:
    assert max(map(len, shown(report))) <= 80


def test_the_largest_report_keeps_every_column_and_whole_ids() -> None:
    lines = shown(WORST)
    text = "\n".join(lines)
    for header in ("worker", "state", "restarts", "device", "budget", "free", "queue", "job", "idle", "session"):
        assert any(header in line.split() for line in lines), header
    assert text.count("j") - sum(line.split()[-1:] == ["job"] for line in lines) == 64 * limits.STATUS_ROWS
    assert "1000000" in text


def test_a_daemon_without_workers_jobs_or_sessions_shows_two_lines() -> None:
    assert len(shown(replace(REPORT, workers=(), jobs=(), sessions=()))) == 2


def test_a_daemon_that_stops_says_so() -> None:
    assert shown(replace(REPORT, draining=True))[0].endswith(", stopping")


def test_names_are_text_and_no_markup() -> None:
    lines = shown(replace(REPORT, model="[bold]x[/]", workers=(replace(READY, device="[/red] :smile:"),)))
    assert lines[0].startswith("[bold]x[/] in")
    assert lines[4].endswith("[/red] :smile:")


@given(st.integers(1, 2**40), st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_a_bar_has_sixty_cells_whatever_the_ledger_says(budget: int, parts: list[int]) -> None:
    weights, sessions, arena = parts
    row = replace(READY, budget=budget, weights=weights, sessions=sessions, arena=arena)
    bar = shown(replace(REPORT, workers=(row,), jobs=(), sessions=()))[-1].split("[")[1]
    assert len(bar) == 61
    assert bar.rstrip("]") == "".join(sorted(bar.rstrip("]"), key="WSA.".index))


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0.0 s"), (59_900, "59.9 s"), (59_990, "1 min"), (3_590_000, "1.0 h"), (10**8, "27.8 h"), (10**9, "12 days")],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert seconds(milliseconds) == text


def test_a_paused_queue_and_an_unloaded_worker_are_shown() -> None:
    lines = shown(replace(REPORT, paused=True, finishing=True, workers=(replace(STARTING, state="unloaded"),)))
    assert (
        "".join(lines[:2])
        .replace(" ", "")
        .startswith("Qwen-Image-Edit-2511infp8-storage,up3.4h,pausedbytheowner,stoppingwhenthequeueisdone")
    )
    assert "gpu-1   unloaded         0  -" in lines

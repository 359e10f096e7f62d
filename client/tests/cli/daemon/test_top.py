import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from qied_client.cli.daemon.top import Speed, View
from qied_client.protocol import messages as m
from rich.console import Console

IN_ITS_TERMINAL = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from qied_client.cli.main import main
main()
"""
GIB = 1024**3
CARD = m.WorkerRow("gpu-0", "ready", "NVIDIA RTX [4090]", 22 * GIB, 12 * GIB, 4 * GIB, 2 * GIB, 4 * GIB, 0)
REPORT = m.StatusReport(1, "Echo", "fp8", 60_000, 2, 3, 2, 5, GIB, 20 * GIB, False, (CARD,), (), ())


def job(name: str | None, step: int, *, user: str = "ann", state: str = "running", **fields: Any) -> m.JobRow:
    return replace(m.JobRow(user, name, state, step, 40, 1024, 1024, None, None), **fields)


def test_speed_is_of_all_running_edits_from_one_report_to_the_next() -> None:
    speed = Speed()
    jobs = (job("a", 10), job(None, 20, user="ben"), job(None, 30, user="ben"), job("d", 0, state="waiting"))
    speed.take(replace(REPORT, jobs=jobs), 100.0)
    assert speed.steps_per_s is None
    jobs = (job("a", 12), job(None, 21, user="ben"), job(None, 30, user="ben"), job("d", 1))
    speed.take(replace(REPORT, jobs=jobs), 102.0)
    assert speed.steps_per_s == 2.0, "2 + 1 + 0, and one of a job that began meanwhile"
    speed.take(replace(REPORT, jobs=(job("a", 3),)), 103.0)
    assert speed.steps_per_s == 0.0, "a job that began again has gone back"


def shown(view: View) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(view)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_view_fits_80_columns_and_shows_cards_pace_and_prompts() -> None:
    jobs = (
        job("mine", 12),
        job("mine-too", 0, state="waiting", place=2, starts_in_ms=8_000),
        job(None, 3, user="benjamin-the-second"),
    )
    lines = shown(View(replace(REPORT, jobs=jobs), 3.456, {"mine": "Make it\n[b]night[/] " * 20}, "the daemon is away"))
    assert max(map(len, lines)) <= 80
    assert lines[2] == "2 edits at once, 3.46 steps/s, 3 in the queue"
    assert lines[3] == "the daemon is away"
    assert lines[5] == "gpu-0  ready  18.00 GiB of 22.00 GiB  NVIDIA RTX [4090]"
    assert lines[6].startswith("[WWWW") and "SSSS" in lines[6] and lines[6].endswith(".]")
    assert lines[8].split() == ["user", "state", "step", "size", "queue", "prompt"]
    assert "Make it [b]night[/]" in lines[9]
    assert lines[10].endswith("2, 8.0 s mine-too")
    assert lines[11].startswith("benjamin-…")
    assert lines[12].endswith("and 2 more")


def test_a_worker_in_trouble_says_why() -> None:
    lost = replace(CARD, state="lost", budget=0, trouble="The card is gone: look at its cable.")
    assert shown(View(replace(REPORT, workers=(lost,)), None, {}))[-2:] == [
        "gpu-0  lost  NVIDIA RTX [4090]",
        "The card is gone: look at its cable.",
    ]


@pytest.mark.parametrize("options", [[], ["--once"]])
def test_outside_a_terminal_it_is_one_report(run: Any, modern: Any, options: list[str]) -> None:
    done = run("top", *options, "--key", modern.key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("echo in bf16, up 0.0 s\n")
    assert "0 edits at once, - steps/s, 0 in the queue" in done.stdout


def test_a_daemon_that_is_away_is_an_error(run: Any, daemon: Any, free_address: str) -> None:
    daemon.write_key(free_address)
    assert run("top", "--key", daemon.key).returncode == 3


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_in_a_terminal_it_is_live_until_q_or_ctrl_c(modern: Any, plain: Mapping[str, str], key: bytes) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", IN_ITS_TERMINAL, "top", "--key", str(modern.key)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, **plain, "TERM": "xterm"},
    )
    os.close(slave)
    for _ in range(3):
        modern.wait_for(m.Status)  # it asks again and again
    os.write(master, key)
    seen = b""
    try:
        while select.select([master], [], [], 30)[0]:
            seen += os.read(master, 65536)
    except OSError:  # the other side has closed it
        pass
    assert child.wait(timeout=30) == 0
    assert b"edits at once" in seen
    assert seen.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in seen, "the screen is as it was"
    os.close(master)

"""The log as people read it: one line for what happened, within the terminal's width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from qied.terminal_log import TerminalLog, duration

EDIT = {"user": "anna", "job": "job-2d51376f64e34d48b732", "width": 1024, "height": 1024, "steps": 4}


def rendered(event: str, *, level: str = "info", detailed: bool = False, colours: bool = False, **fields: Any) -> str:
    log = TerminalLog(colours=colours, columns=lambda: 80, detailed=lambda: detailed, log_file="daemon.jsonl")
    return log(None, level, {"level": level, "timestamp": "14:02:11", "event": event, **fields})


def finished(**fields: Any) -> str:
    return rendered("finished", part="dispatcher", **{**EDIT, "state": "succeeded", "run_ms": 1900, **fields})


def test_the_model_that_is_served_is_a_sentence() -> None:
    line = rendered("model", part="serve", told="Qwen-Image-Edit-2511 (by its configuration)", path="/m")
    assert line.endswith("  the model is Qwen-Image-Edit-2511 (by its configuration), from /m")


def test_an_edit_that_ends_is_one_line() -> None:
    line = finished(precision="fp8", code=None, wait_ms=20)
    assert line == "14:02:11  anna  job-2d51376f64e34d48b732  1024x1024  4 steps  1.9 s  FP8"
    assert len(line) <= 80


def test_a_wait_that_people_notice_is_told_on_the_same_line() -> None:
    line = finished(precision="fp8", wait_ms=12_000)
    assert line == "14:02:11  anna  job-2d51376f…  1024x1024  4 steps  1.9 s  waited 12.0 s  FP8"
    assert len(line) <= 80
    assert "waited" not in finished(precision="fp8", wait_ms=900)


@pytest.mark.parametrize(
    ("running", "waiting", "text"),
    [
        (0, 0, "stopping"),
        (0, 1, "stopping; 1 edit for the next start"),
        (2, 3, "stopping: 2 edits under way, with 30 s to end, 3 more for the next start. Ctrl-C stops at once"),
    ],
)
def test_a_stop_says_what_becomes_of_edits(running: int, waiting: int, text: str) -> None:
    told = rendered("stopping", part="daemon", running=running, waiting=waiting, grace_s=30)
    assert " ".join(told.split()) == f"14:02:11 {text}"


def test_a_stop_says_what_is_left() -> None:
    assert rendered("stopped", results_kept=1, requeued=2).endswith(
        "stopped: 1 result kept, 2 edits for the next start"
    )
    assert rendered("stopped", results_kept=0, requeued=0).endswith("  stopped")


def test_a_failed_edit_says_why_and_what_helps() -> None:
    text = finished(state="failed", code="oom", why="The card's memory is full.", remedy="Ask for less.")
    assert "failed: The card's memory is full." in " ".join(text.split())
    assert text.splitlines()[-1] == "          do  Ask for less."


def test_a_cancelled_edit_needs_no_remedy() -> None:
    assert finished(state="cancelled", code="job_cancelled").endswith("1.9 s  cancelled")


@pytest.mark.parametrize(
    ("level", "code"), [("warning", "\x1b[33m"), ("error", "\x1b[31m"), ("info", "\x1b[2m14:02:11\x1b[0m  ")]
)
def test_what_is_wrong_has_a_colour(level: str, code: str) -> None:
    assert code in rendered("a part of the world", level=level, colours=True)
    assert "\x1b" not in rendered("a part of the world", level=level)


def test_a_requeue_is_of_note() -> None:
    text = rendered("requeued", user="anna", job="job-1", deaths=1, reason="the worker ended", colours=True)
    assert "\x1b[33manna  job-1  waits again: the worker ended\x1b[0m" in text


@pytest.mark.parametrize(
    "event", ["planned", "ready", "started", "worker started", "swept", "the engine cannot be loaded"]
)
def test_the_normal_course_is_for_debug_alone(event: str) -> None:
    with pytest.raises(structlog.DropEvent):
        rendered(event, part="serve")
    assert rendered(event, part="serve", detailed=True) == f"14:02:11  {event} (part serve)"


def test_a_worker_is_told_of_when_it_is_ready_again() -> None:
    log = TerminalLog(colours=False, columns=lambda: 80, detailed=lambda: False)

    def tell() -> str:
        return log(None, "info", {"level": "info", "timestamp": "1", "event": "worker ready", "worker": "worker-0"})

    with pytest.raises(structlog.DropEvent):
        tell()
    assert tell() == "1  worker-0 is ready again"


def test_sizes_and_times_have_units() -> None:
    text = rendered("other programs hold memory of the card", level="warning", withheld_bytes=3 * 1024**3)
    assert "other programs hold 3.0 GiB of the card" in text
    assert "(free 2.0 GiB, silent 5 min)" in rendered("something new", free_bytes=2 * 1024**3, silent_ms=300_000)


def test_fields_that_say_nothing_are_left_out() -> None:
    assert rendered("something", part="daemon", code=None, left_out=0, address="") == "14:02:11  something"


def test_an_event_that_lacks_a_field_of_its_sentence_is_told_all_the_same() -> None:
    assert rendered("requeued", user="anna") == "14:02:11  requeued (user anna)"


def test_long_lines_go_on_below_the_text_and_paths_stay_whole() -> None:
    path = "/a" * 60
    lines = rendered("a client cannot be let in", problem=f"{'word ' * 30}{path} x").splitlines()
    assert all(len(line) <= 80 for line in lines if path not in line)
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert any(path in line for line in lines)


def test_a_traceback_is_in_the_file_and_its_last_line_here() -> None:
    trace = "Traceback (most recent call last):\n  File 1\nValueError: no"
    text = rendered("an edit failed because of a bug", level="error", job="job-1", exception=trace)
    assert "an edit failed because of a bug (job job-1): ValueError: no" in text
    assert "daemon.jsonl" in text and "File 1" not in text
    assert "File 1" in rendered("an edit failed because of a bug", level="error", detailed=True, exception=trace)


def test_the_guide_shows_what_is_printed() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "guide.md").read_text(encoding="utf-8")
    other = {"level": "info", "timestamp": "14:02:40"}
    ended = {**other, "event": "worker ended", "worker": "worker-0", "how": "SIGKILL", "by_itself": False}
    waits = {**other, "event": "requeued", "user": "ben", "job": "job-96c2be4caa3e72ed1774", "deaths": 0}
    log = TerminalLog(colours=False, columns=lambda: 80, detailed=lambda: False)
    shown = [
        finished(precision="fp8"),
        log(None, "warning", ended),
        log(None, "info", {**waits, "reason": "the worker was stopped from outside"}),
    ]
    assert "\n".join(shown) in guide


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0 ms"), (994, "994 ms"), (999, "1.0 s"), (59_949, "59.9 s"), (59_950, "1 min"), (125_000, "2 min 5 s")],
)
def test_durations(milliseconds: float, text: str) -> None:
    assert duration(milliseconds) == text

import io

import pytest
from qied_client.cli.progress import EditProgress, describe
from qied_client.results import Progress
from rich.console import Console

NEWS = [
    Progress("upload", 1, 2),
    Progress("upload", 2, 2),
    Progress("queued", place=3, starts_in_ms=12_000),
    Progress("queued", place=3, note="paused by the owner"),
    Progress("started", total=40),
    Progress("phase", 1, 3, phase="encode_prompt"),
    Progress("phase", 1, 1, phase="encode_image"),
    Progress("step", 1, 40, phase="denoise", remaining_ms=12_345),
    Progress("preview", 1, 40, phase="denoise", preview=b"jpeg"),
    Progress("step", 2, 40, phase="denoise", remaining_ms=12_000),
    Progress("requeued", note="the [b]worker[/] was lost"),
    Progress("phase", 1, 1, phase="decode"),
    Progress("download", 5, 5),
]


def test_outside_a_terminal_each_change_is_one_line() -> None:
    stream = io.StringIO()
    with EditProgress(stream) as progress:
        for news in NEWS:
            progress(news)
    assert stream.getvalue().splitlines() == [
        "uploading",
        "waiting, place 3, starts in 12.0 s",
        "paused by the owner, place 3",
        "started",
        "reading the prompt",
        "reading the picture",
        "editing",
        "waiting again: the [b]worker[/] was lost",
        "finishing",
        "downloading",
    ]


def test_a_terminal_shows_a_bar_in_80_columns_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = EditProgress(stream)
    progress.console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with progress:
        for news in [*NEWS, Progress("requeued", note="x" * 200), Progress("step", 100, 200, remaining_ms=3_599_000)]:
            progress(news)
            assert progress._live is not None
            progress._live.refresh()
    frames = [line.split("\x1b[2K")[-1] for line in stream.getvalue().replace("\r", "\n").splitlines()]
    assert max(map(len, frames)) <= 80
    assert any("editing" in frame and "1/40  12.3 s left" in frame for frame in frames)
    assert any("uploading" in frame and "50 %" in frame for frame in frames)
    assert any("[b]worker[/]" in frame for frame in frames)
    assert any("100/200" in frame for frame in frames)
    assert stream.getvalue().endswith("\x1b[2K")


def test_why_nothing_starts_is_said_once_and_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [
        Progress("queued", place=place, note="The card [gone] is away: look at its cable, or serve with another.")
        for place in (2, 1)
    ]
    stream = io.StringIO()
    with EditProgress(stream) as progress:
        for news in [*held, Progress("queued", place=1), held[0]]:
            progress(news)
    why = "no edit can start now: The card [gone] is away: look at its cable, or serve with another."
    assert stream.getvalue().splitlines() == [
        why,
        "waiting, place 2",
        "waiting, place 1",
        why,
        "waiting, place 2",
    ]
    stream = io.StringIO()
    progress = EditProgress(stream)
    progress.console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with progress:
        for news in held:
            progress(news)
    assert stream.getvalue().count(why) == 1


def test_what_is_not_known_is_left_out() -> None:
    assert describe(Progress("queued")) == "waiting"
    assert describe(Progress("queued", place=2)) == "waiting, place 2"
    assert describe(Progress("waiting")) == "waiting"
    assert describe(Progress("step", 1, 4)) == "editing"
    assert describe(Progress("phase", phase="a_new_one")) == "a_new_one"


def test_a_lost_connection_is_said_and_the_bar_stays_where_it_was() -> None:
    stream = io.StringIO()
    progress = EditProgress(stream)
    progress.console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with progress:
        for news in [Progress("step", 7, 120, phase="denoise"), Progress("waiting", note="connection lost")]:
            progress(news)
        assert progress._live is not None
        (task,) = progress._live.tasks
        assert (task.description, task.completed, task.total) == ("connection lost, waiting", 7, 120)
        progress(Progress("waiting", note="connected again"))
        assert progress._live.tasks[0].description == "connected again"


def test_a_long_note_of_waiting_has_a_line_of_its_own() -> None:
    stream = io.StringIO()
    with EditProgress(stream) as progress:
        progress(Progress("waiting", note="8 uploads are under way, which is the limit of one user."))
    assert stream.getvalue().splitlines() == [
        "waiting: 8 uploads are under way, which is the limit of one user.",
        "waiting",
    ]


def test_a_preview_leaves_the_remaining_time_where_it_is() -> None:
    stream = io.StringIO()
    progress = EditProgress(stream)
    progress.console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    counts = []
    with progress:
        for news in [
            Progress("step", 4, 40, phase="denoise", remaining_ms=9_000),
            Progress("preview", 4, 40, phase="denoise", preview=b"jpeg"),
            Progress("step", 5, 40, phase="denoise"),
            Progress("preview", 5, 40, phase="denoise", preview=b"jpeg"),
        ]:
            progress(news)
            assert progress._live is not None
            counts.append(progress._live.tasks[0].fields["count"])
    assert counts == ["4/40  9.0 s left", "4/40  9.0 s left", "5/40", "5/40"]


def test_one_of_several_edits_is_numbered() -> None:
    stream = io.StringIO()
    with EditProgress(stream) as progress:
        progress.which = "2 of 4"
        progress(Progress("step", 1, 4, phase="denoise"))
    assert stream.getvalue() == "2 of 4 editing\n"

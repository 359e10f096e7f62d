import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client.cli.drawing import can_draw, half_blocks, show_pictures
from rich.console import Console
from rich.text import Text


def png(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def console(width: int = 80, **options: Any) -> Console:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"))
    return Console(file=stream, width=width, **{"force_terminal": True, "color_system": "truecolor", **options})


def test_a_cell_shows_two_pixels() -> None:
    image = Image.new("RGB", (3, 3))
    image.putdata([(i * 20, 0, 0) for i in range(9)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    text = half_blocks(buffer.getvalue(), 48)
    assert text.plain == "▀▀▀\n▀▀▀"
    drawn = console(legacy_windows=False)
    with drawn.capture() as shown:
        drawn.print(text)
    assert shown.get().startswith("\x1b[38;2;0;0;0;48;2;60;0;0m▀")
    assert shown.get().splitlines()[1].startswith("\x1b[38;2;120;0;0m▀"), "the last row has nothing below it"


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_pictures_stand_side_by_side_within_the_width(count: int, rows: int) -> None:
    drawn = console()
    with drawn.capture() as shown:
        show_pictures(drawn, [(f"title [{n}]", png(640, 480)) for n in range(count)])
    plain = [Text.from_ansi(line).plain for line in shown.get().splitlines()]
    assert sum("title [0]" in line or "title [3]" in line for line in plain) == rows
    assert max(map(len, plain)) <= 80


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ({}, True),
        ({"color_system": "256"}, True),
        ({"color_system": "standard"}, False),
        ({"color_system": None}, False),
        ({"no_color": True}, False),
        ({"force_terminal": False}, False),
        ({"encoding": "latin-1"}, False),
    ],
)
def test_only_a_terminal_with_colours_is_drawn_in(options: dict[str, Any], drawn: bool) -> None:
    assert can_draw(console(**options)) is drawn


def test_an_edit_outside_a_terminal_draws_nothing(run: Any, daemon: Any, before: Path, tmp_path: Path) -> None:
    for options in ([], ["--no-picture"], ["--picture", "never"], ["--picture", "auto"]):
        done = run("edit", before, "x", "-o", tmp_path / "a.png", "--key", daemon.key, *options)
        assert (done.returncode, "▀" in done.stdout) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("options", "drawn"), [([], True), (["--json"], False), (["--no-picture"], False), (["--picture", "never"], False)]
)
def test_an_edit_in_a_terminal_draws_before_and_after(
    run: Any,
    daemon: Any,
    before: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    drawn: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    done = run("edit", before, "x", "-o", tmp_path / "a.png", "--key", daemon.key, *options)
    assert done.returncode == 0, done.stderr
    assert ("▀" in done.stdout) is drawn
    assert ("before" in done.stdout.splitlines()[0]) is drawn

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from tools.tiny_model import contact_sheet as sheets
from tools.tiny_model.__main__ import main, preview_edits
from tools.tiny_model.edits import sample_edit
from tools.tiny_model.render import render_scenes


def test_a_result_shows_source_output_truth_and_difference() -> None:
    edits = [sample_edit(Random(1), "move"), sample_edit(Random(1), "replace from")]
    truth = render_scenes([edit.target for edit in edits])
    first, second = sheets.result_entries(edits, truth, [True, False])
    assert [label for label, _ in first.pictures] == ["source", "output", "truth", "difference"]
    assert [label for label, _ in second.pictures] == ["source", "picture 2", "output", "truth", "difference"]
    assert (first.failed, second.failed) == (False, True)
    assert float(first.pictures[-1][1].max()) == 0.0


def test_differences_are_brightened() -> None:
    edit = sample_edit(Random(1), "move")
    output = (render_scenes([edit.target]) * 0.9).clamp(0, 1)
    difference = sheets.result_entries([edit], output, [True])[0].pictures[-1][1]
    expected = ((output - render_scenes([edit.target]))[0].abs() * sheets.DIFFERENCE_GAIN).clamp(0, 1)
    assert torch.equal(difference, expected)


def test_the_sheet_has_the_pictures_where_they_belong() -> None:
    red, blue = (torch.tensor(rgb)[:, None, None].expand(3, 8, 8) for rgb in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    entries = [sheets.Entry((("one", red), ("two", blue)), "caption")] * 3
    sheet = sheets.contact_sheet(entries, columns=2, side=40)
    colours = {sheet.getpixel((sheets.GAP + 20, sheets.LABEL_PX + 20)), sheet.getpixel((2 * sheets.GAP + 60, 36))}
    assert colours == {(255, 0, 0), (0, 0, 255)}
    assert sheets.contact_sheet(entries[:1], columns=2, side=40).height * 2 == sheet.height


def test_an_empty_sheet_is_a_picture_too() -> None:
    assert sheets.contact_sheet([]).width > 0


def test_chinese_is_drawn_in_a_font_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    font = sheets._latin_font()
    monkeypatch.setattr(sheets, "_chinese_font", lambda: font)
    entry = sheets.Entry((), "删除圆形", plain="(Chinese) remove")
    assert list(sheets._caption_lines(entry, 400)) == [("删除圆形", font)]


def test_where_no_font_has_chinese_the_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "_chinese_font", lambda: None)
    edit = replace(sample_edit(Random(1), "move"), instruction="将圆形移动到底部。", language="zh")
    entry = sheets.truth_entries([edit])[0]
    assert [line for line, _ in sheets._caption_lines(entry, 400)] == ["(Chinese) move"]


def test_a_long_caption_is_cut_to_its_lines() -> None:
    lines = [line for line, _ in sheets._caption_lines(sheets.Entry((), "word " * 100), 200)]
    assert len(lines) == sheets.CAPTION_LINES
    assert lines[-1].endswith("...")


def test_the_preview_draws_24_edits_of_every_task(tmp_path: Path) -> None:
    edits = preview_edits(0)
    assert len(edits) == 24
    main(["preview", "--out", str(tmp_path / "sheet.png"), "--seed", "3"])
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.format == "PNG" and picture.width > 600

"""Figures in prose are those of results: a figure that somebody changes by hand, or adds, is found."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import figures
import pytest
from figures_bench.prose import Sentence, figures_of
from figures_bench.values import values

PAGES = tomllib.loads(figures.LIST.read_text())["pages"]


def test_every_page_says_what_the_results_say():
    assert not figures.problems(), "python benchmarks/figures.py"


@pytest.mark.parametrize("page", PAGES)
def test_each_figure_of_a_page_that_is_changed_by_hand_is_found(tmp_path: Path, page: str):
    for name in PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(figures.ROOT / name, tmp_path / name)
    text = (figures.ROOT / page).read_text()
    for match in figures_of(text):
        digit = next(index for index in range(match.start(), match.end()) if text[index].isdigit())
        changed = str((int(text[digit]) + 1) % 10)
        (tmp_path / page).write_text(text[:digit] + changed + text[digit + 1 :])
        assert figures.problems(tmp_path), match.group()


def test_a_new_figure_without_a_result_is_found(tmp_path: Path):
    for name in PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(figures.ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text((tmp_path / "README.md").read_text() + "\nIt saves 37 % of everything.\n")
    assert any("37 %" in problem for problem in figures.problems(tmp_path))


def test_a_sentence_is_written_anew_wherever_its_lines_break():
    sentence = Sentence("page", "takes {ms} ms on one {card} and no more")
    page = "# It takes 5 ms on\n# one H100 and no\n# more."
    assert sentence.written(page, {"ms": "4.5", "card": "H200"}) == "# It takes 4.5 ms on\n# one H200 and no\n# more."
    with pytest.raises(ValueError, match="0 times"):
        sentence.written("It takes long.", {})


def test_generated_parts_and_code_are_left_to_their_programs():
    page = "<!-- a: begin -->\n3 ms\n<!-- a: end -->\n```\n4 ms\n```\n`5 ms` and 6 ms"
    assert [match.group() for match in figures_of(page)] == ["6 ms"]


def test_every_value_that_a_sentence_names_exists():
    known = values()
    listed = tomllib.loads(figures.LIST.read_text())["sentence"]
    names = {name for each in listed for name in Sentence(each["page"], each["text"]).names()}
    assert names <= set(known)

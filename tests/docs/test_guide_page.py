"""The guide's table of cards says what their plans say, and its pictures show what is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LARGEST_PICTURE_BYTES = 60_000


def test_the_table_of_cards_is_that_of_the_golden_plans():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "card_table.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/card_table.py"


def test_the_pictures_of_terminals_have_the_words_that_are_printed():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "terminal_pictures.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/terminal_pictures.py"


def test_the_pictures_of_terminals_are_small_and_fetch_nothing():
    for picture in (ROOT / "docs" / "pictures").glob("terminal-*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert len(text) < LARGEST_PICTURE_BYTES
        assert "url(http" not in text

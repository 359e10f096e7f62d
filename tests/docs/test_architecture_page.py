"""The page on the architecture has a line for every package, and quotes code as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
QUOTES = re.findall(r"^<!-- from (\S+) -->\n```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
GAP = "..."


def first_missing(source: str, quote: str) -> str | None:
    """The first part of ``quote`` that is not in ``source`` in its order; ``GAP`` parts them, blanks may differ."""
    rest = _without_blanks(source)
    for part in re.split(rf"^{re.escape(GAP)}$", quote, flags=re.MULTILINE):
        _, found, rest = rest.partition(_without_blanks(part))
        if not found:
            return part.strip()
    return None


def _without_blanks(text: str) -> str:
    """Lines of the page are broken at its own width."""
    return re.sub(r"\s+", "", text)


def test_every_package_has_its_line():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "package_lines.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/package_lines.py"


def test_every_block_of_code_names_its_file():
    assert len(QUOTES) == PAGE.count("```python\n") > 0


@pytest.mark.parametrize(("path", "quote"), QUOTES, ids=[f"{n} {path}" for n, (path, _) in enumerate(QUOTES, 1)])
def test_quoted_code_is_the_code(path: str, quote: str):
    assert first_missing((ROOT / path).read_text(encoding="utf-8"), quote) is None


def test_a_quote_that_drifted_is_found():
    source = "a = 1\nb = 2\nc = 3\nd = 4\n"
    assert first_missing(source, "a = 1\nb = 2\n...\nd = 4\n") is None
    assert first_missing(source, "a = 1\nc = 3\n") == "a = 1\nc = 3"
    assert first_missing(source, "c = 3\n...\na = 1\n") == "a = 1"

"""A part of a page that is written by a program, between two marks: written anew, or with ``--check`` only compared."""

from __future__ import annotations

import sys
from pathlib import Path


def update(page: Path, mark: str, part: str) -> int:
    """Put ``part`` between the marks of this name in ``page``; returns the exit status, 1 where a check differs."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    wanted = f"{before}{begin}\n\n{part}\n{end}{after}"
    if "--check" in sys.argv[1:]:
        return 0 if text == wanted else 1
    page.write_text(wanted, encoding="utf-8")
    return 0

"""The page on the protocol says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_tables_are_those_of_the_code():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "protocol_tables.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/protocol_tables.py"


def test_every_part_that_a_table_names_has_a_table():
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| .*`([A-Z][a-z]\w+)`.* \|$", page, re.MULTILINE))
    assert {"Redraw", "PresetInfo"} <= named <= set(re.findall(r"^#### (\w+)$", page, re.MULTILINE))

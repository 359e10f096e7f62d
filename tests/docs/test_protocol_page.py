"""The page on the protocol says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_tables_are_those_of_the_code():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "protocol_tables.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/protocol_tables.py"

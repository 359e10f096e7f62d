"""The page on the architecture has a line for every module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_module_has_its_line():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "module_lines.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/module_lines.py"

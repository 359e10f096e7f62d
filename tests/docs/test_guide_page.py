"""The guide's table of cards says what their plans say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_table_of_cards_is_that_of_the_golden_plans():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "card_table.py", "--check"], check=False)
    assert checked.returncode == 0, "run: python tools/card_table.py"

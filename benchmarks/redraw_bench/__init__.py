"""The redraw benchmark: a draft's edited region drawn again, beside a whole redo."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results" / "redraw.json"

"""Parts of ``benchmarks/performance.py``; importing this makes ``tools`` importable, which no package holds."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

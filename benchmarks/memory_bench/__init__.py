"""Parts of ``benchmarks/memory.py``; importing this makes ``tests`` and ``tools`` importable."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

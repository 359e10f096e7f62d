"""Loading takes what stays of the weights and little more, however large the file is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.sparse_files import stored_as
from tools.sparse_checkpoint import sparse_file

ROOT = Path(__file__).parents[3]
FULL_SIZE_BYTES = 13_900_000_000
"""What stays of the real transformer in FP8."""


def blocks_of_full_size(path: Path, count: int, flavour: str) -> Path:
    """The first blocks of the real transformer and what is outside of blocks, without data."""
    entries, texts = stored_as("transformer", flavour)
    kept = {
        name: entry
        for name, entry in entries.items()
        if not name.startswith("transformer_blocks.") or int(name.split(".")[1]) < count
    }
    return sparse_file(path, kept, texts)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak")
@pytest.mark.parametrize("flavour", ["bf16", "fp8_lightx2v"])
def test_the_peak_is_what_stays_and_an_overhead_that_is_small_for_the_whole_model(tmp_path: Path, flavour: str) -> None:
    count = 2
    path = blocks_of_full_size(tmp_path / "part.safetensors", count, flavour)
    child = [sys.executable, str(ROOT / "benchmarks" / "loading_bench" / "child.py"), str(path), str(count), ""]
    done = subprocess.run(child, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    found = json.loads(done.stdout)
    assert path.stat().st_size > 700_000_000
    overhead = found["peak_bytes"] - found["stays_bytes"]
    assert overhead < 0.1 * FULL_SIZE_BYTES / 3, "a third of what the whole model may take beside itself"

"""Fuzzes what reads weight files by their headers, guided by coverage: `make fuzz`. Needs atheris.

Anything but a BadFile is a finding, and so is a call that takes more memory than the file has bytes, many times over.
"""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qied"]):
    from qied.checkpoints.part_file import part_role, read_part
    from qied.weights.header import read_header
    from qied.weights.problems import BadFile
    from qied.weights.stored import precision_of, stored_tensors

OBJECTS_PER_BYTE = 400
"""Memory that Python's own objects may take for each byte of a header: names, dicts and integers."""
BASE_BYTES = 1 << 20

_FILE = Path(tempfile.mkdtemp(prefix="qied-fuzz-")) / "file.safetensors"


def test_one_input(data: bytes) -> None:
    """Read ``data`` as a weight file in every way that there is."""
    _FILE.write_bytes(data)
    tracemalloc.start()
    try:
        with suppress(BadFile):
            header = read_header(_FILE)
            part_role(header)
            precision_of(stored_tensors(header))
        with suppress(BadFile):
            read_part(_FILE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > BASE_BYTES + OBJECTS_PER_BYTE * len(data):
        raise MemoryError(f"{peak} bytes for a file of {len(data)}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()

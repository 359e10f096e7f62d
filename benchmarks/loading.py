"""Loads transformers of full size: time and peak memory from each kind of file, and the next start from the cache.

README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from loading_bench import ROOT
from rich.console import Console
from rich.table import Table
from wire_bench.machine import command, versions, without_identity

from qied.checkpoints.inspect import inspect
from qied.hardware.probe import probe
from tests.checkpoints.sparse_files import GGUF_FLAVOURS, Entries, all_in_one, gguf_transformer, stored_as
from tools.sparse_checkpoint import sparse_file, sparse_gguf

LAYERS = 60
FLAVOURS = ("bf16", "fp8_lightx2v", "fp8_scaled", "int8_convrot", "nvfp4", *GGUF_FLAVOURS, "all_in_one")
_READ_BYTES = 1 << 24


def main() -> None:
    """Measure each kind of file, show a table, write JSON."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    report = {
        "schema": 1,
        "benchmark": "loading",
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": without_identity(probe(os.environ).to_json()),
        "versions": versions(),
        "layers": arguments.layers,
        "rows": rows,
    }
    with tempfile.TemporaryDirectory(prefix="qied-loading-", dir=arguments.folder) as folder:
        for flavour in arguments.only or FLAVOURS:
            rows += _measured(Path(folder), flavour, arguments.layers)
            # After each, since a run takes a while.
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _show(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the loading of transformers.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--only", nargs="+", metavar="KIND", choices=FLAVOURS, help=f"of: {', '.join(FLAVOURS)}")
    parser.add_argument("--layers", type=int, default=LAYERS, help="blocks of the model (default: all 60)")
    parser.add_argument("--folder", type=Path, help="where 14 GB of packed blocks may lie for a while")
    return parser.parse_args()


def _measured(folder: Path, flavour: str, layers: int) -> list[dict[str, Any]]:
    """A file of one kind: recognised, loaded, and where it had to be quantised, loaded again from what was kept."""
    path = _sparse(folder, flavour, layers)
    started = time.monotonic()
    inspect(path)
    told = time.monotonic() - started
    cache = folder / "packed"
    facts = {"what": flavour, "file_bytes": path.stat().st_size, "inspect_seconds": told}
    rows = [{**facts, **_child(path, layers, cache)}]
    for packed in cache.glob("*.packed"):
        _forget(packed)
        again = {"what": f"{flavour}, kept", "file_bytes": packed.stat().st_size, **_child(path, layers, cache)}
        _forget(packed)
        rows.append({**again, "plain_read_seconds": _read(packed)})
        packed.unlink()
    if flavour == "gguf_q4_k":
        rows.append({**facts, "what": f"{flavour}, as stored", **_child(path, layers, cache, streamed=True)})
    return rows


def _sparse(folder: Path, flavour: str, layers: int) -> Path:
    """A file of a kind in its full size, or with fewer blocks, whose data is a hole."""
    if flavour in GGUF_FLAVOURS:
        tensors = _first(gguf_transformer(GGUF_FLAVOURS[flavour]), layers)
        return sparse_gguf(folder / f"{flavour}.gguf", tensors, "qwen_image")
    entries, texts = all_in_one("bf16") if flavour == "all_in_one" else stored_as("transformer", flavour)
    return sparse_file(folder / f"{flavour}.safetensors", _first(entries, layers), texts)


def _first(entries: Entries, layers: int) -> Entries:
    """Without the blocks behind the first ``layers``."""
    found = {name: re.search(r"transformer_blocks\.(\d+)\.", name) for name in entries}
    return {name: entries[name] for name, match in found.items() if match is None or int(match[1]) < layers}


def _child(path: Path, layers: int, cache: Path, *, streamed: bool = False) -> dict[str, Any]:
    code = ROOT / "benchmarks" / "loading_bench" / "child.py"
    done = subprocess.run(
        [sys.executable, str(code), str(path), str(layers), str(cache), *["streamed"] * streamed],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
    )
    return dict(json.loads(done.stdout))


def _forget(path: Path) -> None:
    """Let the system drop what it has of a file in memory, so that the next read is from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> float:
    """Seconds that it takes to read a file from end to end and do nothing with it."""
    started = time.monotonic()
    buffer = bytearray(_READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.monotonic() - started


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("file", "GB", "header, ms", "seconds", "GB/s", "stays, GB", "peak, GB", "peak / stays")
    for row in rows:
        size, seconds, stays, peak = (row[key] for key in ("file_bytes", "seconds", "stays_bytes", "peak_bytes"))
        told = f"{1000 * row['inspect_seconds']:.0f}" if "inspect_seconds" in row else ""
        figures = (size / 1e9, seconds, size / seconds / 1e9, stays / 1e9, peak / 1e9, peak / stays)
        shown = [f"{figure:.2f}" for figure in figures]
        table.add_row(row["what"], shown[0], told, *shown[1:])
    console = Console(width=110)
    console.print(table)
    for row in rows:
        if "plain_read_seconds" in row:
            plain = row["plain_read_seconds"]
            console.print(f"{row['what']}: {row['seconds']:.1f} s; the file read plainly: {plain:.1f} s")


if __name__ == "__main__":
    main()

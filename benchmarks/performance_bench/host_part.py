"""What is said of figures that need no card: loading, the wire, the web gateway, and installing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quality_bench.tables import Table
from wire_bench.spread import Figure

from performance_bench.reports import NOT_MEASURED, RESULTS

GB = 1e9
_AGAIN = "the next start, from what was kept"
_KINDS = {
    "bf16": "BF16",
    "fp8_lightx2v": "LightX2V's FP8",
    "fp8_scaled": "ComfyUI's `fp8_scaled`",
    "int8_convrot": "ComfyUI's INT8 with rotation",
    "nvfp4": "NVFP4",
    "gguf_bf16": "GGUF in BF16",
    "gguf_q8_0": "GGUF in Q8_0",
    "gguf_q4_k": "GGUF in Q4_K",
    "gguf_q4_k, as stored": "the same, nine of ten blocks as they are stored",
    "all_in_one": "all parts in one file, BF16",
}


def read(name: str, folder: Path | None = None) -> Mapping[str, Any] | None:
    """The results of a program, or None where it has not run."""
    file = (folder or RESULTS) / f"{name}.json"
    found: Mapping[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def loading(folder: Path | None = None) -> str:
    """Loading the full transformer from each kind of file."""
    report = read("loading", folder)
    if report is None:
        return f"{NOT_MEASURED}\n"
    cells = []
    for row in report["rows"]:
        plain = f" (reading it plainly: {row['plain_read_seconds']:.0f})" if "plain_read_seconds" in row else ""
        stays = row["stays_bytes"]
        cells.append(
            (
                f"{_kind(row['what'])}, {row['file_bytes'] / GB:.1f} GB",
                f"{1000 * row['inspect_seconds']:.0f} ms" if "inspect_seconds" in row else "",
                f"{row['seconds']:.0f}{plain}",
                f"{stays / GB:.1f} GB",
                f"{row['peak_bytes'] / stays:.2f}",
            )
        )
    host = report["machine"]["host"]
    where = f"{host['cpu_count']} cores, {host['memory_total_bytes'] / GB:.0f} GB of memory"
    table = Table(
        "Loading the transformer", ("file", "header", "seconds", "stays", "peak over what stays"), tuple(cells)
    )
    return _head(where, report) + table.markdown()


def _kind(what: str) -> str:
    return _AGAIN if what.endswith(", kept") else _KINDS.get(what, what)


def wire(folder: Path | None = None) -> str:
    """The daemon on the wire, against its bars."""
    return _bars("wire", "On the wire", folder)


def web(folder: Path | None = None) -> str:
    """The web gateway, against its bars."""
    return _bars("web", "At the web gateway", folder)


def _bars(program: str, title: str, folder: Path | None) -> str:
    report = read(program, folder)
    if report is None:
        return f"{NOT_MEASURED}\n"
    cells = []
    for bar in report["bars"]:
        figure, unit = Figure(**bar["figure"]), bar["unit"]
        sign = "at least" if bar["more_is_better"] else "below"
        cells.append((bar["name"], f"{figure} {unit}", f"{sign} {bar['bar']:g} {unit}", "yes" if bar["met"] else "no"))
    machine = report["machine"]
    where = f"{machine['cores']} cores, {machine['processor']}, {machine['state_file_system']}"
    columns = ("figure", "median of rounds (lowest to highest)", "to reach", "met")
    return _head(where, report) + Table(title, columns, tuple(cells)).markdown()


def _head(where: str, report: Mapping[str, Any]) -> str:
    told = report["versions"]
    return f"{where}, qied {told['qied']}, {report['at'][:10]}.\n\n```sh\n{report['command']}\n```\n\n"

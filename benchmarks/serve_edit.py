"""Measures whole edits through a real daemon: within 8 and 6 GB of a card, previews of four steps, and unloading.

README.md beside this file tells the method. Each part runs in a process of its own and is recorded at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from part_runs.part import Part
from part_runs.report import Report, device_of
from part_runs.runner import run_parts
from rich.console import Console
from serve_bench.bars import PREVIEW, UNLOAD, judged
from serve_bench.setting import EIGHT, SIX, setting
from serve_bench.show import show

PARTS = (
    Part(EIGHT, "1024 x 1024, guidance, 40 steps, one reference", "serve_bench.parts:eight"),
    Part(PREVIEW, "1024 x 1024, four steps, everything resident", "serve_bench.parts:preview"),
    Part(UNLOAD, "the model unloaded after an edit, and brought back by the next", "serve_bench.parts:unload"),
    Part(SIX, "768 x 768, guidance, 40 steps, one reference", "serve_bench.parts:six"),
)


def main() -> None:
    """Run the parts that were asked for, show tables, write JSON."""
    arguments = _arguments()
    builtin = arguments.model == "builtin"
    report = Report("serve_edit", builtin, arguments.json, judged)
    for file in arguments.add:
        report.add(file)
    if not arguments.show and not arguments.add:
        device = device_of("cpu" if builtin else "cuda", report)
        names = arguments.parts or [part.name for part in PARTS]
        chosen = setting(arguments.model, "fp32" if builtin else arguments.precision)
        run_parts([part for part in PARTS if part.name in names], chosen, report, device, arguments.seconds)
    show(report.content, Console(width=170))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure whole edits through a daemon.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add all figures to this file")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="default: all")
    parser.add_argument("--model", choices=("full-size", "builtin"), default="full-size", help="builtin: on the CPU")
    parser.add_argument("--precision", choices=("fp8", "fp8-storage", "bf16"), default="fp8")
    parser.add_argument("--seconds", type=float, default=86400.0, help="stop after so many and keep what is there")
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="FILE", help="only add other runs' parts")
    parser.add_argument("--show", action="store_true", help="only show what is in the file")
    return parser.parse_args()


if __name__ == "__main__":
    main()

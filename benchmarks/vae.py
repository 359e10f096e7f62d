"""Measures the VAE: time, memory and error of encoding and decoding, beside diffusers'.

README.md beside this file tells the method. Each part runs in a process of its own and is recorded at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from part_runs.part import Part
from part_runs.report import Report, device_of
from part_runs.runner import run_parts
from rich.console import Console
from vae_bench.bars import judged
from vae_bench.setting import setting
from vae_bench.show import show

PARTS = (
    Part("ours", "the project's VAE", "vae_bench.speed:measure_ours"),
    Part("diffusers", "diffusers' VAE", "vae_bench.speed:measure_diffusers"),
    Part("differences", "errors, and tiles against the whole", "vae_bench.differences:measure"),
)


def main() -> None:
    """Run the parts that were asked for, show tables, write JSON."""
    arguments = _arguments()
    report = Report("vae", arguments.quick, arguments.json, judged)
    for file in arguments.add:
        report.add(file)
    if not arguments.show and not arguments.add:
        device = device_of(arguments.device, report)
        names = arguments.parts or [part.name for part in PARTS]
        chosen = setting(arguments.device, arguments.quick)
        run_parts([part for part in PARTS if part.name in names], chosen, report, device, arguments.seconds)
    show(report.content, Console(width=150))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the VAE.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add all figures to this file")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small network; its figures mean nothing")
    parser.add_argument("--seconds", type=float, default=86400.0, help="stop after so many and keep what is there")
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="FILE", help="only add other runs' parts")
    parser.add_argument("--show", action="store_true", help="only show what is in the file")
    return parser.parse_args()


if __name__ == "__main__":
    main()

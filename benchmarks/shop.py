"""Measures a shop's night: pictures with masks, a four-step LoRA, upscaled four times, as PNG and WebP.

README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from part_runs.part import Part
from part_runs.report import Report, device_of
from part_runs.runner import run_parts
from rich.console import Console
from shop_bench.bars import judged
from shop_bench.setting import NIGHT, setting
from shop_bench.show import show

PARTS = (Part(NIGHT, "masks, four-step LoRA, upscaled, PNG and WebP", "shop_bench.night:night"),)


def main() -> None:
    """Run the night, show its figures, write JSON."""
    arguments = _arguments()
    report = Report("shop", arguments.quick, arguments.json, judged)
    if not arguments.show:
        device = device_of("cpu" if arguments.quick else "cuda", report)
        chosen = setting("builtin" if arguments.quick else "full-size", arguments.pictures, arguments.precision)
        run_parts(PARTS, chosen, report, device, arguments.seconds)
    show(report.content, Console(width=120))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a batch as a shop makes it, in 12 GB of a card.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add all figures to this file")
    parser.add_argument("--quick", action="store_true", help="few pictures by the built-in model, on the CPU")
    parser.add_argument("--pictures", type=int, metavar="N", help="default: 60")
    parser.add_argument("--precision", choices=("fp8", "fp8-storage", "bf16", "fp32"), help="default: fp8")
    parser.add_argument("--seconds", type=float, default=86400.0, help="stop after so many and keep what is there")
    parser.add_argument("--show", action="store_true", help="only show what is in the file")
    return parser.parse_args()


if __name__ == "__main__":
    main()

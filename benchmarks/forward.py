"""Measures one forward of the transformer: the card's own limits, diffusers, and the project's executor.

README.md beside this file tells the method. Each part runs in a process of its own and is recorded at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from forward_bench.bars import judged
from forward_bench.setting import setting
from forward_bench.show import show
from part_runs.part import Part
from part_runs.report import Report, device_of
from part_runs.runner import run_parts
from rich.console import Console

PARTS = (
    Part("ceilings", "what the card itself reaches", "forward_bench.ceilings:measure"),
    Part("fp8", "the project's, FP8", "forward_bench.speed:fp8", fresh_caches=True),
    Part(
        "fp8-attention", "the project's, FP8 with its attention", "forward_bench.speed:fp8_attention", fresh_caches=True
    ),
    Part("int8", "the project's, INT8", "forward_bench.speed:int8", fresh_caches=True),
    Part(
        "int8-attention",
        "the project's, INT8, attention in FP8",
        "forward_bench.speed:int8_attention",
        fresh_caches=True,
    ),
    Part("sustained", "products under the card's power limit", "forward_bench.sustained:measure"),
    Part("diffusers", "diffusers BF16, eager", "forward_bench.peers:eager"),
    Part("compiled", "diffusers BF16, compiled blocks", "forward_bench.peers:compiled", fresh_caches=True),
    Part("compiled-graphs", "the same with CUDA graphs", "forward_bench.peers:compiled_graphs", fresh_caches=True),
    Part("bf16", "the project's, BF16", "forward_bench.speed:bf16"),
    Part("numerics", "errors and bits", "forward_bench.numerics:measure"),
    Part("streaming", "speed against weights on the card", "forward_bench.streaming:measure"),
    Part(
        "streaming-fp8-attention",
        "the same with attention in FP8",
        "forward_bench.streaming:with_fp8_attention",
    ),
    Part("breakdown", "what costs what", "forward_bench.breakdown:measure"),
    Part("fp8-storage", "the project's, FP8 storage", "forward_bench.speed:fp8_storage"),
    Part("breakdown-eager", "what costs what in diffusers", "forward_bench.breakdown:eager"),
    Part("group-offload", "diffusers, blocks offloaded by a stream", "forward_bench.peers:group_offload"),
    Part("torchao", "diffusers + torchao FP8, compiled", "forward_bench.peers:torchao", fresh_caches=True),
    Part(
        "compiled-autotune",
        "diffusers BF16, compiled, kernels timed",
        "forward_bench.peers:compiled_autotune",
        fresh_caches=True,
    ),
)
"""In this order: what matters most comes first, what takes minutes last."""


def main() -> None:
    """Run the parts that were asked for, show tables, write JSON."""
    arguments = _arguments()
    chosen = setting(arguments.device, arguments.quick, tuple(arguments.attention.split(",")))
    report = Report("forward", arguments.quick, arguments.json, judged)
    for file in arguments.add:
        report.add(file)
    if not arguments.show and not arguments.add:
        device = device_of(arguments.device, report)
        names = arguments.parts or [part.name for part in PARTS]
        run_parts([part for part in PARTS if part.name in names], chosen, report, device, arguments.seconds)
    show(report.content, Console(width=150))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one forward of the transformer.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add all figures to this file")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small architecture; its figures mean nothing")
    parser.add_argument("--seconds", type=float, default=86400.0, help="stop after so many and keep what is there")
    parser.add_argument("--attention", default="cudnn,flash,efficient", help="backends of a card, in order")
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="FILE", help="only add other runs' parts")
    parser.add_argument("--show", action="store_true", help="only show what is in the file")
    return parser.parse_args()


if __name__ == "__main__":
    main()

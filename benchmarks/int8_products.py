"""Measures products in INT8 with rotated inputs: our Triton kernel beside comfy-kitchen's, in turns on one card.

comfy-kitchen quantises inside of its linear, so its own quantising alone is measured as well; ours is part of the
kernels of norms and GELU. README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from wire_bench.machine import command, versions, without_identity

from qied.engine.block.arena import Workspace
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.choice import int8_linears
from qied.engine.ops.operations import Activation
from qied.engine.selftest.measure import clock_of, median_seconds, relative_error
from qied.engine.weights.quantise import rotate_to_int8
from qied.engine.weights.rotation import reversed_groups
from qied.hardware.probe import probe
from qied.planning.layout.block_layout import BlockShape, linears
from qied.planning.profiles.model_profile import shipped_profiles

TOKENS = (512, 4096, 8576)
"""Text alone, a picture of 1024 x 1024, and one with a reference of that size and text."""


def main() -> None:
    """Measure the image stream's linears for each number of tokens, show a table, write JSON."""
    arguments = _arguments()
    facts = shipped_profiles()["qwen-image-edit-2511"].architecture
    shape = BlockShape(facts.inner_dim, facts.mlp_dim, facts.head_dim)
    chosen = [linear for linear in linears(shape) if linear.name.startswith("image")]
    rows = [
        {"linear": linear.name, "tokens": tokens, **_measured(tokens, linear.inputs, linear.outputs, shape)}
        for tokens in TOKENS
        for linear in chosen
    ]
    report = {
        "schema": 1,
        "benchmark": "int8_products",
        "command": command(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": without_identity(probe(os.environ).to_json()),
        "versions": {**versions(), "comfy-kitchen": importlib.metadata.version("comfy-kitchen")},
        "rows": rows,
    }
    _show(rows)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure INT8 products.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def _measured(tokens: int, inputs: int, outputs: int, shape: BlockShape) -> dict[str, Any]:
    device, group = torch.device("cuda"), shape.rotation_group
    generator = torch.Generator(device).manual_seed(7)
    x = torch.randn(tokens, inputs, generator=generator, device=device, dtype=torch.bfloat16)
    weight = torch.randn(outputs, inputs, generator=generator, device=device) / inputs**0.5
    bias = torch.randn(outputs, generator=generator, device=device, dtype=torch.bfloat16)
    cast, stored = rotate_to_int8(x, group), rotate_to_int8(weight, group)
    linear = PackedLinear(stored.values, bias, stored.scale.flatten())
    activation = Activation(cast.values, cast.scale.flatten())
    out = torch.empty(tokens, outputs, dtype=torch.bfloat16, device=device)
    kind, workspace = int8_linears(device), Workspace(out, out)
    library: Any = importlib.import_module("comfy_kitchen")
    theirs, scale = reversed_groups(stored.values, group).contiguous(), stored.scale.reshape(-1, 1).contiguous()

    def ours() -> Tensor:
        kind.apply(activation, linear, out, workspace)
        return out

    def kitchen() -> Tensor:
        made: Tensor = library.int8_linear(
            x, theirs, scale, bias, torch.bfloat16, convrot=True, convrot_groupsize=group
        )
        return made

    def kitchen_quantises() -> object:
        return library.quantize_int8_rowwise(x)

    exact = functional.linear(x.float(), weight, bias.float())
    errors = {"ours": relative_error(ours(), exact), "kitchen": relative_error(kitchen(), exact)}
    seconds = median_seconds(clock_of(device), ours, kitchen, kitchen_quantises)
    names = ("ours_ms", "kitchen_ms", "kitchen_quantising_ms")
    return {**{name: 1e3 * each for name, each in zip(names, seconds, strict=True)}, "errors": errors}


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "linear", "tokens", "ours, ms", "comfy-kitchen, ms", "of which it quantises, ms", "ours, error", "its"
    )
    for row in rows:
        times = [f"{row[name]:.3f}" for name in ("ours_ms", "kitchen_ms", "kitchen_quantising_ms")]
        errors = [f"{row['errors'][name]:.4f}" for name in ("ours", "kitchen")]
        table.add_row(row["linear"], str(row["tokens"]), *times, *errors)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""The values that pages quote, each computed from a file in ``benchmarks/results/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
_NATIVE, _SMALLEST, _FEW = "1024/1024", "512/512", "4.5 GB"


def values(folder: Path = RESULTS) -> dict[str, str]:
    """Every value by its name, as text."""
    return {
        **_memory(_read(folder, "memory")),
        **_forward(_read(folder, "forward")["parts"]),
        **_unload(_read(folder, "serve_edit")["parts"]["unload"]["figures"]),
        **_int8(_read(folder, "int8")["parts"]),
        **_int8_products(_read(folder, "int8_products")),
        **_install(_read(folder, "install")["builds"]),
        **(_card(_read(folder, "test-card")) if (folder / "test-card.json").exists() else {}),
    }


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _memory(report: Mapping[str, Any]) -> dict[str, str]:
    cases = report["cases"]
    budgets = [case["plan"]["budget_bytes"] for case in cases]
    over = [100 * case["over"] for case in cases]
    return {
        "memory.edits": str(len(cases)),
        "memory.plans": str(len({case["setup"] for case in cases})),
        "memory.card": report["machine"]["gpus"][0]["name"].removeprefix("NVIDIA "),
        "memory.least_budget_gb": f"{min(budgets) / 1e9:.0f}",
        "memory.most_budget_gb": f"{max(budgets) / 1e9:.0f}",
        "memory.least_over": f"{min(over):.1f}",
        "memory.most_over": f"{max(over):.1f}",
        "memory.below": str(sum(each < 0 for each in over)),
    }


def _forward(parts: Mapping[str, Any]) -> dict[str, str]:
    def ms(part: str, size: str = _NATIVE) -> float:
        return float(parts[part]["figures"]["sizes"][size]["ms"])

    def streamed(part: str, row: str = _FEW) -> float:
        return float(parts[part]["figures"][row]["ms"][_NATIVE])

    offloaded = parts["group-offload"]["figures"]
    kernels = parts["breakdown"]["figures"]
    blocks = parts["numerics"]["figures"]["one block"]
    best = min(ms(peer) for peer in ("compiled", "compiled-graphs", "torchao"))
    streaming = "streaming-fp8-attention"
    offload = min(float(each["ms"][_NATIVE]) for each in offloaded.values())
    return {
        "forward.card": parts["fp8"]["device"].removeprefix("NVIDIA "),
        "forward.fp8_over_eager": f"{ms('diffusers') / ms('fp8-attention'):.1f}",
        "forward.fp8_over_best": f"{best / ms('fp8-attention'):.1f}",
        "forward.attention_gain": f"{100 * (1 - ms('fp8-attention') / ms('fp8')):.0f}",
        "forward.attention_gain_small": f"{100 * (1 - ms('fp8-attention', _SMALLEST) / ms('fp8', _SMALLEST)):.0f}",
        "forward.block_error": f"{100 * blocks['fp8']['update_same_weights']:.1f}",
        "forward.block_error_fp8_attention": f"{100 * blocks['fp8-attention']['update_same_weights']:.1f}",
        "forward.streamed_gb": f"{parts[streaming]['figures'][_FEW]['weights_bytes'] / 1e9:.1f}",
        "forward.streamed_share": f"{100 * streamed(streaming, 'resident') / streamed(streaming):.0f}",
        "forward.over_offload": f"{offload / streamed(streaming):.1f}",
        "forward.issue_ms": f"{parts['fp8']['figures']['sizes'][_NATIVE]['issue_ms']:.0f}",
        "forward.eager_issue_ms": f"{parts['diffusers']['figures']['sizes'][_NATIVE]['issue_ms']:.0f}",
        "forward.launches_fp8_attention": str(round(kernels["fp8-attention"][_NATIVE]["launches"] / 60)),
        "forward.launches_bf16": str(round(kernels["bf16"][_NATIVE]["launches"] / 60)),
    }


def _int8(parts: Mapping[str, Any]) -> dict[str, str]:
    def ms(part: str) -> float:
        return float(parts[part]["figures"]["sizes"][_NATIVE]["ms"])

    blocks = parts["numerics"]["figures"]["one block"]
    return {
        "int8.card": parts["int8"]["device"].removeprefix("NVIDIA "),
        "int8.longer": f"{100 * (ms('int8') / ms('fp8') - 1):.0f}",
        "int8.block_error": f"{100 * blocks['int8']['update_same_weights']:.1f}",
        "int8.block_error_fp8": f"{100 * blocks['fp8']['update_same_weights']:.1f}",
    }


def _int8_products(report: Mapping[str, Any]) -> dict[str, str]:
    """How many times as long comfy-kitchen takes where a product is large, without its quantising."""
    large = [row for row in report["rows"] if row["tokens"] > 512]
    longer = [(row["kitchen_ms"] - row["kitchen_quantising_ms"]) / row["ours_ms"] for row in large]
    return {
        "int8_products.card": report["machine"]["gpus"][0]["name"].removeprefix("NVIDIA "),
        "int8_products.least": f"{min(longer):.1f}",
        "int8_products.most": f"{max(longer):.1f}",
    }


def _unload(figures: Mapping[str, Any]) -> dict[str, str]:
    return {
        "unload.freed_gb": f"{figures['held_bytes'] / 1e9:.0f}",
        "unload.freed_s": f"{figures['freed_ms'] / 1000:.1f}",
        "unload.back_s": f"{(figures['back']['ms'] - figures['warm']['ms']) / 1000:.0f}",
        "unload.start_s": f"{figures['start_ms'] / 1000:.0f}",
    }


def _install(builds: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, facts in builds.items():
        found[f"install.{name}_fetched_gb"] = f"{facts['fetched_bytes'] / 1e9:.1f}"
        found[f"install.{name}_disk_gb"] = f"{facts['environment_bytes'] / 1e9:.1f}"
        found[f"install.{name}_minutes"] = f"{max(1, round(facts['install_s'] / 60)):d}"
        found[f"install.{name}_demo_s"] = f"{facts['demo_s']:.0f}"
    return found


def _card(report: Mapping[str, Any]) -> dict[str, str]:
    cards = report["machine"]["gpus"]
    return {
        "card.date": report["at"][:10],
        "card.passed": str(report["total"].get("passed", 0)),
        "card.failed": str(report["total"].get("failed", 0)),
        "card.skipped": str(report["total"].get("skipped", 0)),
        "card.cards": str(len(cards)),
        "card.name": cards[0]["name"].removeprefix("NVIDIA "),
        "card.torch": report["versions"]["torch"],
    }

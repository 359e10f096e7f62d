"""The page on performance says what the results say; figures here are made up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forward_bench import bars as forward_bars
from forward_bench.setting import MIDDLE, NATIVE, SIZES, SMALLEST
from performance_bench import page, plots
from performance_bench.reports import NOT_MEASURED, results
from PIL import Image
from serve_bench import bars as serve_bars
from vae_bench import bars as vae_bars

ROOT = Path(__file__).resolve().parents[2]
CARD, OTHER = "Some Card 80GB", "Another Card"
GB = 10**9


def part(figures: dict[str, Any], device: str = CARD) -> dict[str, Any]:
    versions = {"torch": "9.9", "diffusers": "8.8", "qied": "7.7"}
    told = {"device": device, "at": "2031-02-03T04:05:06Z", "command": "python benchmarks/some.py"}
    return {**told, "versions": versions, "seconds": 1.0, "error": None, "figures": figures}


def report(benchmark: str, parts: dict[str, Any], judged: Any) -> dict[str, Any]:
    machines = {CARD: {"driver": {"version": "123.45"}}, OTHER: {"driver": None}}
    kind = {"schema": 1, "benchmark": benchmark, "quick": False, "machines": machines}
    return {**kind, "parts": parts, "bars": judged(parts)}


def sizes(milliseconds: float) -> dict[str, Any]:
    return {
        str(size): {"ms": milliseconds * n, "first_ms": [1500.0, 9.0, 9.0], "peak_reserved_bytes": 2 * GB}
        for n, size in enumerate(SIZES, 1)
    }


def forward() -> dict[str, Any]:
    weights = {"weights": {"bytes": 14 * GB}}
    kernels = [{"name": "nvjet_x", "ms": 70.0, "count": 60}, {"name": "flash_y", "ms": 80.0, "count": 60}]
    summary = {"span_ms": 155.5, "gaps_ms": 5.5, "launches": 120, "kernels": kernels}
    streaming = {
        "resident": {"weights_bytes": 14 * GB, "resident": 60, "ms": {MIDDLE: 90.0, NATIVE: 190.0}},
        "4.5 GB": {"weights_bytes": 4 * GB, "resident": 16, "ms": {MIDDLE: 150.0, NATIVE: 195.0}},
        "0.7 GB": {"error": "no memory"},
    }
    streaming["resident"]["several_ms"] = {MIDDLE: 360.0, NATIVE: 760.0}
    streaming["4.5 GB"]["several_ms"] = {MIDDLE: 380.0, NATIVE: 770.0}
    errors = {SMALLEST: {"to_fp32": 0.0123}, NATIVE: {"to_fp32": 0.0234}}
    block = {"output_same_weights": 0.0067, "update_same_weights": 0.0412}
    parts = {
        "ceilings": part(
            {
                "gemm_tflops": {"fp8": {NATIVE: {"qkv": 1000.0, "out": 800.0}}, "bf16": {NATIVE: {"qkv": 600.0}}},
                "attention_tflops": {"cudnn": {NATIVE: 500.0}, "flash": {NATIVE: {"error": "no"}}},
                "copy_bytes_per_s": {"pinned": 55e9, "pageable": {"error": "no"}},
            }
        ),
        "fp8": part({**weights, "sizes": sizes(60)}),
        "fp8-attention": part({**weights, "sizes": sizes(50)}),
        "diffusers": part({"weights": {"bytes": 41 * GB}, "sizes": sizes(150)}),
        "torchao": part({**weights, "sizes": {NATIVE: sizes(80)[NATIVE]}}, OTHER),
        "breakdown": part({"fp8": {NATIVE: summary}}),
        "streaming": part(streaming),
        "numerics": part(
            {
                "fp8": errors,
                "plain weights": {
                    "diffusers bf16": {NATIVE: {"to_fp32": 0.01, "to_itself_by_another_attention": 0.0028}},
                    "bf16": {NATIVE: {"to_fp32": 0.01, "to_diffusers_bf16": 0.0046}},
                },
                "one block": {"fp8": block},
                "same bits": {"fp8": {"repeated": True, "streamed_and_swept": False}},
            }
        ),
    }
    return report("forward", parts, forward_bars.judged)


def vae() -> dict[str, Any]:
    ways = {way: {"ms": 27.0, "peak_tensors_bytes": 2 * GB} for way in ("encode", "decode")}
    errors = {way: {"to_fp32": 0.0051, "of_diffusers_bf16_to_fp32": 0.0052} for way in ways}
    tiles = {"there and back": {"whole": 41.0}, "tiles of 256": {"encode": 48.2, "decode": 49.3}}
    parts = {"ours": part({"whole": {"1024": ways}}), "differences": part({"errors": errors, "tiles": tiles})}
    return report("vae", parts, vae_bars.judged)


EXECUTION = {"resident_blocks": 19, "attention": ["fp8", "cudnn"]}


def served() -> dict[str, Any]:
    memory = {"allocated": 1, "reserved": 7 * GB, "reserved_before": 6 * GB, "beside": GB // 2}
    edit = {"width": 1024, "height": 1024, "steps": 40, "ms": 17500.0, "step_ms": 400.0, "phases": {}, "memory": memory}
    plan = {"peak_bytes": 7_900_000_000, "budget_bytes": 8 * GB, "worker": {"execution": EXECUTION}}
    within = {"budget": edit, "plan": plan, "resident": {**edit, "step_ms": 380.0}, "resident_plan": plan}
    names = ("encode_prompt", "encode_image", "prepare_steps", "denoise", "decode", "png", "everything else")
    spent = dict(zip(names, (111.0, 33.0, 0.0, 777.0, 44.0, 22.0, 55.0), strict=True))
    parts = {"8 GB": part(within), "preview": part({"ms": 1042.0, "breakdown": spent})}
    return report("serve_edit", parts, serve_bars.judged)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a page, written from results that are made up."""
    shutil.copy(page.PAGE, tmp_path / "performance.md")
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(page, "PICTURES", tmp_path)
    for name, content in (("forward", forward()), ("vae", vae()), ("serve_edit", served())):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["performance.py"])
    assert page.write_page(check=False, folder=tmp_path) == 0
    return tmp_path


def test_the_page_in_the_repository_says_what_the_results_say() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "performance.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/performance.py"


@pytest.mark.parametrize("name", ["forward", "vae", "serve_edit"])
def test_results_in_the_repository_are_of_full_runs_without_failed_parts(name: str) -> None:
    found = results(name)
    assert [part["error"] for part in found.parts.values()] == [None] * len(found.parts)


def test_figures_of_the_results_are_on_the_page(written: Path) -> None:
    text = (written / "performance.md").read_text()
    assert f"{CARD}, driver 123.45, torch 9.9, diffusers 8.8, qied 7.7, 2031-02-03" in text
    for said in (
        "| qied FP8 | 50.0 (3.00x) | 100.0 (3.00x) | 150.0 (3.00x) | 200.0 (3.00x) | 14.00 | 2.00 | 1.50 |",
        "| qied FP8, attention in 16 bits | 60.0 (2.50x) | 120.0 (2.50x) | 180.0 (2.50x) | 240.0 (2.50x) |",
        "| FP8 over diffusers eager, 1024/1024 | 3.00x | at least 2.00x | yes |",
        "| FP8, attention in 16 bits, over diffusers eager, 1024/1024 | 2.50x | at least 2.00x | yes |",
        "| FP8 products | 800 TFLOP/s | 1000 TFLOP/s |",
        "| matrix products | 70.0 |",
        "| 4.00 | 16 | 150.0 (60%) | 195.0 (97%) | 380.0 (95%) | 770.0 (99%) |",
        "| qied FP8, attention in 16 bits | 1.2% | 2.3% | 0.7% | 4.1% |",
        "FP8, attention in 16 bits: other bits: streamed and swept.",
        "| plain random, 1024/1024 | 0.46% | 0.28% |",
        "| qied BF16, whole | - | 27 / 27 | - | - | - | 2.0 / 2.0 | - | - |",
        "| tiles of 256 to the whole, encode / decode | 48.2 / 49.3 dB | - |",
        "| 1024 x 1024, 40 steps, 8 GB | FP8 | 19 | 17.5 | 400.0 | 95% | 7.50 | 7.90 | 8.00 |",
        "| steps | 777 |",
        "| preview of four steps, request to PNG | 1042 ms | at most 1200 ms | yes |",
    ):
        assert said in text, said


def test_a_model_that_ran_on_another_card_says_so_and_is_not_compared(written: Path) -> None:
    text = (written / "performance.md").read_text()
    assert f"| diffusers + torchao FP8, compiled blocks ({OTHER}) | - | - | 240.0 | - |" in text
    assert "| FP8 over torchao compiled, 1024/1024 | - |" in text


def test_plots_are_drawn_from_the_results(written: Path) -> None:
    text = (written / "performance.md").read_text()
    for name, part in ((page.FORWARD_PLOT, "fp8-attention"), (page.STREAMING_PLOT, "fp8")):
        assert f"(pictures/{name})" in text
        with Image.open(written / name) as plot:
            assert plot.width == 2 * plots.WIDTH
            colours = {colour for _, colour in plot.convert("RGB").getcolors(1 << 16) or ()}
            assert tuple(int(plots.COLOURS[part][n : n + 2], 16) for n in (1, 3, 5)) in colours


def test_a_page_of_other_figures_is_found(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["performance.py", "--check"])
    assert page.write_page(check=True, folder=written) == 0
    file = written / "vae.json"
    file.write_text(file.read_text().replace("27.0", "28.0"))
    assert page.write_page(check=True, folder=written) == 1


def test_what_was_not_measured_is_not_made_up(written: Path) -> None:
    for name in ("forward", "vae", "serve_edit"):
        (written / f"{name}.json").unlink()
    assert page.write_page(check=False, folder=written) == 0
    generated = [part.partition(": end")[0] for part in (written / "performance.md").read_text().split(": begin -->")]
    *measured, published = (part.replace("-->", "").split("<!--")[0].strip() for part in generated[1:])
    assert measured == 11 * [NOT_MEASURED]
    assert "not run here" in published


def test_results_of_a_quick_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vae.json").write_text(json.dumps({"quick": True}))
    with pytest.raises(SystemExit, match="quick run"):
        results("vae", tmp_path)


@pytest.mark.parametrize(("high", "top", "step"), [(636.0, 700, 100), (14.0, 14, 2), (12672.0, 14000, 2000)])
def test_axes_start_at_zero_and_hold_every_value(high: float, top: float, step: float) -> None:
    axis = plots.from_zero(high, 0, 1)
    assert (axis.low, axis.high, axis.step) == (0, top, step)

"""The forward benchmark on a small architecture; no time is judged here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forward_bench import numerics, streaming
from forward_bench.bars import BARS, judged
from forward_bench.breakdown import Kernel, summary
from forward_bench.groups import grouped
from forward_bench.limits import limits
from forward_bench.lively import OneBlock
from forward_bench.models import diffusers_call, diffusers_model, forwards, inputs, ours, source
from forward_bench.one_block import block_errors
from forward_bench.setting import NATIVE, SIZES, SMALLEST, SWEPT_AT, Setting, setting
from forward_bench.show import show
from part_runs.part import Recorder
from rich.console import Console

from qied.planning.profiles.model_profile import shipped_profiles

ROOT = Path(__file__).resolve().parents[2]
SMALL = setting("cpu", True, ())
SMALL = replace(SMALL, architecture=tuple({**SMALL.config, "num_layers": 3}.items()), repeats=1, warm_up=0)


def recorded(measure: Any) -> dict[str, Any]:
    """What a part records, as the report has it."""
    figures: dict[str, Any] = {}

    def put(path: tuple[str, ...], value: Any) -> None:
        place = figures
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = json.loads(json.dumps(value))

    measure(SMALL, Recorder(put))
    return figures


def test_sizes_have_the_tokens_of_their_pictures():
    full = Setting()
    assert [str(size) for size in SIZES] == ["512/512", "768/768", "1024/1024", "1024/2x1024"]
    assert [full.tokens(size) for size in SIZES] == [2432, 4992, 8576, 12672]


def test_the_full_architecture_is_that_of_the_profile():
    facts = shipped_profiles()["qwen-image-edit-2511"].architecture
    assert (Setting().layers, Setting().inner) == (facts.layers, facts.inner_dim)


def test_weights_are_the_same_for_every_model_and_differ_by_name():
    one, other = source(SMALL), source(SMALL)
    names = [f"transformer_blocks.{block}.attn.to_q.weight" for block in (0, 1)]
    assert torch.equal(one.read(names[0]), other.read(names[0]))
    assert not torch.equal(one.read(names[0]), one.read(names[1]))


def test_both_models_are_given_the_same_forward():
    given = inputs(SMALL, SIZES[0])
    transformer = ours(SMALL, "bf16")
    with torch.inference_mode():
        for step, one in enumerate(forwards(transformer, given)):
            expected = diffusers_call(diffusers_model(SMALL), given, step)
            (found,) = transformer.velocities([one])
            assert numerics.relative_error(found, expected) < 0.01


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """The figures of the part ``numerics``."""
    return recorded(numerics.measure)


class TestNumerics:
    def test_errors_are_those_of_the_precision(self, figures):
        for size in (SMALLEST, NATIVE):
            bf16, fp8 = (figures[precision][size]["to_fp32"] for precision in ("bf16", "fp8"))
            assert 0.002 < bf16 < 0.01 < fp8 < 0.05
            assert figures["diffusers bf16"][size]["to_fp32"] == pytest.approx(bf16, rel=0.3)

    def test_the_attention_in_fp8_has_an_error_of_its_own(self, figures):
        plain, with_it = (figures[name][NATIVE]["to_fp32"] for name in ("fp8", "fp8-attention"))
        assert 1.05 * plain < with_it < 1.5 * plain
        plain, with_it = (figures["one block"][name]["update_same_weights"] for name in ("fp8", "fp8-attention"))
        assert 1.05 * plain < with_it < 1.5 * plain

    def test_bf16_is_compared_with_diffusers_and_that_with_itself(self, figures):
        for kind, least in ((figures["plain weights"], 1e-5), (figures, 1e-3)):
            for size in (SMALLEST, NATIVE):
                itself = kind["diffusers bf16"][size]["to_itself_by_another_attention"]
                assert kind["bf16"][size]["to_diffusers_bf16"] < itself < kind["bf16"][size]["to_fp32"]
                assert itself > least

    def test_streamed_swept_and_repeated_forwards_are_compared(self, figures):
        for precision in ("bf16", "fp8", "fp8-attention"):
            assert figures["same bits"][precision] == dict.fromkeys(
                ("repeated", "swept", "streamed", "streamed_and_swept"), True
            )

    def test_one_bit_in_one_velocity_is_seen(self):
        one, other = torch.zeros(4), torch.zeros(4)
        other[2] = 1e-30
        assert numerics._same([one, one], [one, one.clone()])
        assert not numerics._same([one, other], [one, one])

    def test_a_blocks_update_shows_the_precision_and_where_it_comes_from(self, figures):
        fp8, bf16 = figures["one block"]["fp8"], figures["one block"]["bf16"]
        assert 0.03 < fp8["update_same_weights"] < fp8["update_original_weights"] < 0.1
        assert bf16["update_same_weights"] < 0.01
        assert 0.5 < fp8["update_over_stream_at_gate_2"] < 2

    def test_a_wrong_block_shows_in_its_update(self, monkeypatch):
        draw = OneBlock.draw

        def other(self: OneBlock, name: str) -> torch.Tensor:
            weight = draw(self, name)
            return weight * 1.1 if self._rounded is not None and name.endswith("img_mlp.net.2.weight") else weight

        monkeypatch.setattr(OneBlock, "draw", other)
        assert block_errors(SMALL, "fp8")["update_same_weights"] > 0.06


def test_streaming_has_a_row_for_each_amount_and_sweeps_at_one_of_them(monkeypatch):
    monkeypatch.setattr(streaming, "TARGETS", (None, SWEPT_AT, 0.7))
    figures = recorded(streaming.measure)
    assert {name: row["resident"] for name, row in figures.items()} == {"resident": 3, "4.5 GB": 1, "0.7 GB": 0}
    assert {name for name, row in figures.items() if "several_ms" in row} == {"resident", "4.5 GB"}
    assert figures["0.7 GB"]["streamed_bytes"] > figures["4.5 GB"]["streamed_bytes"] > 0


def test_blocks_are_chosen_for_the_bytes_on_a_card():
    full = Setting(device="cpu")
    assert [streaming._resident(full, target) for target in (0.7, 2.5, 4.5, 7.0, 10.0)] == [0, 7, 16, 27, 40]


class TestBreakdown:
    def test_gaps_are_what_no_kernel_covers(self):
        kernels = [Kernel("a", 0, 100), Kernel("b", 50, 120), Kernel("a", 200, 300), Kernel("c", 210, 220)]
        found = summary(kernels)
        assert (found["span_ms"], found["gaps_ms"], found["launches"]) == (0.3, 0.08, 4)
        assert found["kernels"][0] == {"name": "a", "ms": 0.2, "count": 2}

    @pytest.mark.parametrize(
        ("name", "group"),
        [
            ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7", "attention"),
            ("void pytorch_flash::flash_fwd_kernel<...>", "attention"),
            ("nvjet_sm90_qqtst_128x256_128x4_2x1_v_bz_TNT", "matrix products"),
            ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64", "matrix products"),
            ("heads_kernel", "rope and norms of heads"),
            ("input_kernel", "norms, modulation, quantisation"),
            ("Memcpy DtoD (Device -> Device)", "copies"),
            ("void at::native::vectorized_layer_norm_kernel<...>", "norms, modulation, quantisation"),
            ("void at::native::elementwise_kernel<128, 4, mul>", "other"),
        ],
    )
    def test_kernels_are_put_together_by_their_names(self, name, group):
        found = grouped({"kernels": [{"name": name, "ms": 2.0, "count": 1}], "gaps_ms": 0.5})
        assert found[group] == 2.0 and found["gaps"] == 0.5 and sum(found.values()) == 2.5


def test_the_limit_is_the_arithmetic_at_the_best_rates():
    figures = {
        "gemm_tflops": {"bf16": {"x": 5000}, "fp8": {"512/512": {"qkv": 900.0, "up": 1370.0, "out": {"error": "no"}}}},
        "attention_tflops": {"cudnn": {"1024/1024": 630.0}, "flash": {"1024/1024": 300.0}},
    }
    # The figures of the card that these rates were measured on.
    assert {size: round(ms) for size, ms in limits(figures).items()} == {
        "512/512": 31,
        "768/768": 79,
        "1024/1024": 171,
        "1024/2x1024": 314,
    }
    assert limits({"gemm_tflops": {"fp8": {"x": {"error": "no"}}}}) == {}


class TestBars:
    def part(self, **figures: Any) -> dict[str, Any]:
        return {"device": "H100", "error": None, "figures": figures}

    def sizes(self, **more: float) -> dict[str, Any]:
        return {str(size): {"ms": 10.0 * n, "first_ms": [500.0, 40.0, 40.0], **more} for n, size in enumerate(SIZES, 1)}

    def values(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {bar["name"]: bar["value"] for bar in judged(parts) if bar["value"] is not None}

    def test_speed_is_compared_at_the_same_size(self):
        slow = {size: {"ms": 3 * each["ms"]} for size, each in self.sizes().items()}
        found = self.values({"fp8": self.part(sizes=self.sizes()), "diffusers": self.part(sizes=slow)})
        assert found == {
            "FP8, attention in 16 bits, over diffusers eager, 1024/1024": 3.0,
            "FP8, attention in 16 bits, over diffusers eager, 512/512": 3.0,
            "first forwards at a new size over the next, fp8": 0.49,
        }

    def test_streaming_and_sweeps_are_compared_with_resident_blocks(self):
        few = {"ms": {NATIVE: 20.0}, "several_ms": {"768/768": 50.0}}
        resident = {"ms": {NATIVE: 19.0}, "several_ms": {"768/768": 40.0}}
        found = self.values({"streaming": self.part(**{"4.5 GB": few, "resident": resident})})
        assert list(found.values()) == [0.95, 0.8]

    def test_one_bit_that_differs_misses_the_bar(self):
        bits = {
            "fp8": {"repeated": True, "swept": False},
            "fp8-attention": {"repeated": True, "swept": True},
            "bf16": {"repeated": True, "swept": True},
            "int8": {"repeated": True, "swept": True},
            "int8-attention": {"repeated": True, "swept": True},
        }
        found = judged({"numerics": self.part(**{"same bits": bits})})
        assert [bar["met"] for bar in found if bar["name"].startswith("same bits")] == [False]

    def test_nothing_is_met_where_nothing_was_measured(self):
        assert [bar["met"] for bar in judged({})] == [None] * len(BARS)


def test_a_run_records_and_shows_its_parts(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "forward.py"), "--device", "cpu", "--quick"]
    command += ["--parts", "fp8", "--json", "f.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "qied FP8" in done.stdout and "weights on the card" in done.stdout
    report = json.loads((tmp_path / "f.json").read_text())
    assert (report["benchmark"], report["quick"], list(report["machines"])) == ("forward", True, ["CPU"])
    part = report["parts"]["fp8"]
    assert part["error"] is None and part["device"] == "CPU" and "forward.py --device cpu" in part["command"]
    for figures in part["figures"]["sizes"].values():
        assert figures["ms"] > 0 and len(figures["first_ms"]) == 3 and figures["issue_ms"] > 0


def test_what_is_missing_or_went_wrong_can_be_shown():
    parts = {
        "fp8": {"device": "x", "error": "It failed.", "figures": {"sizes": {NATIVE: {"error": "no"}}}},
        "streaming": {"device": "x", "error": None, "figures": {"4.5 GB": {"error": "no pinned memory"}}},
        "breakdown": {"device": "x", "error": None, "figures": {"fp8": {"error": "no CUPTI"}}},
    }
    console = Console(record=True, width=150, file=io.StringIO())
    show({"parts": parts, "bars": judged(parts)}, console)
    assert "no pinned memory" in (shown := console.export_text()) and "It failed." in shown

"""The benchmark of whole edits on small models; no time is judged here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_bench import full_size
from memory_bench.gguf_file import random_gguf
from part_runs.part import Recorder
from PIL import Image
from serve_bench import engine as watched
from serve_bench import parts
from serve_bench.bars import UNLOAD, judged
from serve_bench.served import model_folder, profile_file
from serve_bench.setting import EIGHT, PREVIEW_PRESET, SIX, Request, Setting, setting
from serve_bench.watch import REPORT

from qied.checkpoints.expected import expected_shapes
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.edit import EditSpec
from qied.engine.weights.sources import FileSource
from qied.link.launch import LaunchOrder
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import load_profile, shipped_profiles
from qied.serving.model import _fitting_profile

GB = 10**9


def test_the_folder_of_the_full_size_model_is_one_that_the_daemon_serves(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    assert [Path(file).stat().st_size for file in pipeline_checkpoint(folder).transformer] == [0]
    profile = load_profile(profile_file(tmp_path))
    assert _fitting_profile(folder, {"it": profile})[0] == profile
    preset = profile.presets[PREVIEW_PRESET]
    assert (preset.steps, preset.true_cfg_scale, preset.schedule, preset.lightning) == (4, 1.0, "lightning", None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small architecture in the place of the full one."""
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "vocab_size": 1024}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    transformer = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "axes_dims_rope": [8, 12, 12]}
    monkeypatch.setattr(full_size, "TEXT", {**full_size.TEXT, **text, "rope_parameters": rope})
    monkeypatch.setattr(full_size, "VISION", {**full_size.VISION, **vision, "fullatt_block_indexes": [1]})
    monkeypatch.setattr(full_size, "TRANSFORMER", {**full_size.TRANSFORMER, **transformer, "joint_attention_dim": 64})
    monkeypatch.setattr(full_size, "VAE", {**full_size.VAE, "base_dim": 8})
    full_size._shapes.cache_clear()


def test_an_edit_with_random_weights_is_watched_to_its_end(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.jsonl"
    monkeypatch.setenv(REPORT, str(report))
    run = Execution("cpu", 0, "fp8", "rowwise", "bf16", 2, 1, 2, "streamed", None, None, False, 0, 1 << 20)
    order = LaunchOrder(
        **dict.fromkeys(("worker", "endpoint", "server_key", "public_key", "secret_key", "engine", "kind"), ""),
        **dict.fromkeys(("log_format", "log_level"), "text"),
        checkpoint=pipeline_checkpoint(model_folder(tmp_path / "model")),
        profile=str(profile_file(tmp_path)),
        execution=run,
        card={},
        budget_bytes=GB,
        fixed_bytes=1,
        edits_bytes=1,
        cache_bytes=1 << 20,
        max_active=1,
        threads=0,
    )
    engine = watched.load_random(order, lambda *_: None)
    spec = EditSpec(("a" * 64,), "red", " ", 1, 2, 4.0, 64, 64, preview_every=0, schedule="lightning")
    edit = engine.begin(spec, {"a" * 64: Image.linear_gradient("L").convert("RGB").resize((64, 64))}, "nobody")
    while (image := edit.advance().image) is None:
        pass
    loaded, line = (json.loads(text) for text in report.read_text().splitlines())
    assert image.size == (64, 64) and image.convert("L").getextrema()[0] < image.convert("L").getextrema()[1]
    assert loaded["execution"]["text_encoder"] == "streamed" and loaded["budget_bytes"] == GB
    assert [phase for phase, _ in line["units"]].count("denoise") == 2
    assert line["units"][-1][0] == "decode" and all(spent >= 0 for _, spent in line["units"])


class TestParts:
    SETTING: Setting = setting("builtin", "fp32")

    def edit(self, milliseconds: float, **phases: float) -> Any:
        return SimpleNamespace(
            milliseconds=milliseconds,
            phases=phases,
            steps=[phases["denoise"]],
            result=SimpleNamespace(width=64, height=64, bytes=b"png", timings={"encode_ms": 5.0, "held_ms": 1.0}),
            line={"memory": None},
        )

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Daemons that were started, with a made-up one in their place: a step takes 10 ms, resident 9."""
        asked: list[Any] = []

        @contextmanager
        def served(_: Setting, budget: int | None = None, pixels: int | None = None) -> Iterator[Any]:
            asked.append((budget, pixels))
            loaded = {"execution": {"max_reference_pixels": 4096}}
            spent = 10.0 if pixels is None else 9.0
            edits = iter([self.edit(100.0 + n, denoise=spent, decode=20.0) for n in range(3)])
            yield SimpleNamespace(planned={"peak_bytes": 7}, loaded=loaded, edit=lambda _: next(edits))

        monkeypatch.setattr(parts, "served", served)
        return asked

    def figures(self, part: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        part(self.SETTING, Recorder(lambda path, value: found.update({path[0]: value})))
        return found

    def test_an_edit_in_a_budget_is_compared_with_one_of_the_same_references(self, asked: list[Any]) -> None:
        figures = self.figures(parts.eight)
        assert asked == [(self.SETTING.within[EIGHT].budget_bytes, None), (None, 4096)]
        part = {"device": "H100", "error": None, "figures": figures}
        bars = {bar["name"]: bar["value"] for bar in judged({EIGHT: part})}
        assert bars[f"speed of steps in {EIGHT} over resident"] == 0.9

    def test_the_first_preview_does_not_count_and_the_parts_add_up(self, asked: list[Any]) -> None:
        figures = self.figures(parts.preview)
        assert figures["first"]["ms"] == 100.0 and [edit["ms"] for edit in figures["edits"]] == [101.0, 102.0]
        assert figures["ms"] == 101.5
        assert figures["breakdown"]["everything else"] == 101.5 - 5 - 10 - 20
        assert sum(figures["breakdown"].values()) == figures["ms"]


def test_the_budget_holds_for_loading_too_and_the_prediction_for_the_edit() -> None:
    memory = {"allocated": 1, "reserved": 6 * GB, "reserved_before": 7 * GB, "beside": GB // 2}
    figures = {"budget": {"memory": memory}, "plan": {"budget_bytes": 8 * GB, "peak_bytes": 7 * GB}}
    bars = {bar["name"]: bar for bar in judged({SIX: {"device": "H100", "figures": figures}})}
    assert bars[f"peak in {SIX} over the budget"]["value"] == 7.5 / 8
    assert bars[f"peak in {SIX} over the predicted one"]["value"] == pytest.approx(6.5 / 7, abs=1e-4)


def test_the_edits_are_those_that_are_promised() -> None:
    full = setting("full-size", "fp8")
    assert {name: (each.budget_bytes, each.request) for name, each in full.within.items()} == {
        EIGHT: (8 * GB, Request(1024, 40, 4.0)),
        SIX: (6 * GB, Request(768, 40, 4.0)),
    }
    assert full.preview == Request(1024, 4, 1.0, PREVIEW_PRESET)


def test_previews_of_the_builtin_model_are_measured_through_a_real_daemon() -> None:
    figures: dict[str, Any] = {}
    few = replace(setting("builtin", "fp32"), previews=1)
    parts.preview(few, Recorder(lambda path, value: figures.update({path[0]: json.loads(json.dumps(value))})))
    assert figures["plan"]["precision"] == "fp32" and figures["plan"]["worker"]["execution"]["total_blocks"] == 6
    assert figures["first"]["phases"]["prepare_steps"] > 0
    (edit,) = figures["edits"]
    assert edit["steps"] == 4 and edit["phases"]["denoise"] > 0 and edit["png_ms"] > 0
    assert figures["ms"] == edit["ms"] > sum(edit["phases"].values()) + edit["png_ms"]
    assert "prepare_steps" not in edit["phases"], "the table of the schedule is kept"


def test_unloading_is_measured_through_a_real_daemon() -> None:
    figures: dict[str, Any] = {}
    parts.unload(setting("builtin", "fp32"), Recorder(lambda path, value: figures.update({path[0]: value})))
    assert figures["held_bytes"] > 1 << 26 and figures["left_bytes"] == 0
    part = {"device": "CPU", "error": None, "figures": figures}
    bars = {bar["name"]: bar["value"] for bar in judged({UNLOAD: part})}
    assert bars["memory free after unloading"] == figures["freed_ms"]
    waited = figures["back"]["ms"] - figures["warm"]["ms"]
    assert bars["model brought back by an edit, over a start"] == pytest.approx(waited / figures["start_ms"], abs=1e-4)


def test_a_random_gguf_file_has_every_tensor_and_numbers_of_a_sensible_size(tmp_path: Path) -> None:
    path = random_gguf(tmp_path / "one-block.gguf", "Q4_K", layers=1)
    source = FileSource("transformer", [path])
    shapes = expected_shapes(shipped_profiles()["qwen-image-edit-2511"], "transformer")
    wanted = {name for name in shapes if not name.startswith("transformer_blocks.") or ".0." in name[:22]}
    assert set(source.names()) == wanted
    weight = source.stored("transformer_blocks.0.img_mlp.net.2.weight")
    assert (weight.kind, weight.shape) == ("Q4_K", (3072, 12288))
    assert 0.4 < float(weight.dense().std()) * 12288**0.5 < 0.6
    assert source.read("transformer_blocks.0.attn.norm_q.weight").eq(1).all()
    assert not source.read("transformer_blocks.0.attn.to_q.bias").any()

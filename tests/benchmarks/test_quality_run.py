"""The quality benchmark on the project's own engine: few edits, few steps; no figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from quality_bench import rows
from quality_bench.engines import Engines, Model
from quality_bench.gguf_source import GgufSource
from quality_bench.jobs import Job, begin_edit, digest, run
from quality_bench.measuring import Measured, row_report, run_row
from quality_bench.page import TEXT_RESULTS
from quality_bench.plain_cast import PlainCastLinear, PlainCastSource, plain_cast
from quality_bench.report import choose, weights_hash
from quality_bench.sets import turns
from quality_bench.workers import Workers
from safetensors.torch import save_file
from torch.nn import functional

from qied.checkpoints.pipeline_folder import weight_files
from qied.engine.block.packed import PackedLinear
from qied.engine.ops.operations import Activation
from qied.engine.weights.quantise import E4M3, E4M3_MAX, quantise
from qied.engine.weights.sources import FileSource
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_loras_folder, builtin_model_folder

ROOT = Path(__file__).resolve().parents[2]
PROFILE = shipped_profiles()["builtin"]
ROWS = {row.name: replace(row, steps=2) for row in rows.rows(PROFILE)}
LIMIT = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The built-in model with a style LoRA of random numbers, and none for few steps."""
    folder = tmp_path_factory.mktemp("loras")
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"transformer.transformer_blocks.{block}.attn.to_v.lora_{part}.weight": torch.randn(
            shape, generator=generator
        ).mul_(0.1)
        for block in range(PROFILE.architecture.layers)
        for part, shape in (("A", (4, 256)), ("B", (256, 4)))
    }
    save_file(tensors, folder / "builtin-outline.safetensors")
    return Model(builtin_model_folder(), folder, PROFILE, "cpu")


@pytest.fixture(scope="module")
def workers(model: Model) -> Iterator[Workers]:
    with Workers(model, 1) as made:
        yield made


@pytest.fixture(scope="module")
def done(workers: Workers) -> dict[str, Measured]:
    """A few edits of two steps in some rows."""
    limits = {rows.MAIN: LIMIT, rows.STYLE: 2, rows.MIXED: 2, rows.ROWWISE: 1, "fp8 plain cast 20": 1, rows.GGUF_Q8: 1}
    keep = frozenset(range(1000))
    return {name: run_row(ROWS[name], workers, limit, keep, lambda *_: None) for name, limit in limits.items()}


def digests(measured: Measured) -> list[str]:
    return [outcome.digest for outcome in measured.outcomes]


def test_every_edit_of_the_part_is_measured_once_with_its_picture(done: dict[str, Measured]) -> None:
    main = done[rows.MAIN]
    assert [outcome.session for outcome in main.outcomes] == sorted(main.sessions)
    assert len(main.pictures()) == LIMIT
    assert all(picture.size == (256, 256) for picture in main.pictures().values())
    assert all(outcome.score.psnr > 5 for outcome in main.outcomes)


def test_a_row_gives_the_same_pictures_again(done: dict[str, Measured], workers: Workers) -> None:
    again = run_row(ROWS[rows.MAIN], workers, 1, frozenset(), lambda *_: None)
    assert digests(again) == digests(done[rows.MAIN])[:1]
    assert again.pictures() == {}


def test_each_precision_gives_pictures_of_its_own(done: dict[str, Measured]) -> None:
    names = (rows.MAIN, rows.ROWWISE, "fp8 plain cast 20", rows.GGUF_Q8)
    found = [digests(done[name])[0] for name in names]
    assert len(set(found)) == len(names)


def test_sessions_with_and_without_a_lora_that_take_turns_get_what_each_gets_alone(done: dict[str, Measured]) -> None:
    mixed = row_report(done[rows.MIXED], done)
    assert mixed["same_as_alone"] == {"count": 2, "same": 2}
    assert {outcome.with_lora for outcome in done[rows.MIXED].outcomes} == {True, False}
    assert not {*digests(done[rows.MAIN])} & {*digests(done[rows.STYLE])}


def test_a_turn_starts_from_the_result_of_the_one_before(model: Model) -> None:
    row, session = ROWS[rows.TURNS], turns()[0]
    engine = Engines(model).engine(row)
    two = replace(session, edits=session.edits[:2])
    first, second = run(Job(row, (two,), (False,), frozenset({session.number})), engine, "cpu")
    assert first.picture is not None
    running = begin_edit(engine, row, session.edits[1], first.picture, session.seed + 1, False)
    while (image := running.advance().image) is None:
        pass
    assert (first.turn, second.turn, second.digest) == (0, 1, digest(image))


def test_all_rows_share_one_vae_in_fp32(model: Model) -> None:
    engines = Engines(model)
    first, second = (engines.engine(ROWS[name]).models.vae for name in (rows.MAIN, rows.ROWWISE))
    assert first is second is engines.vae
    assert first.dtype == torch.float32


def test_rows_that_cannot_run_are_left_out_with_a_note(model: Model) -> None:
    chosen = choose(model, None, LIMIT)
    names = {row.name for row in chosen.rows}
    assert rows.STYLE in names and rows.MAIN in names and chosen.vae
    assert not names & {rows.LIGHTNING, "bf16 20 bf16 vae"}
    assert "there is no builtin-lightning-4steps.safetensors" in " ".join(chosen.notes)


class TestPlainCast:
    def test_numbers_beyond_the_largest_become_that_one_and_small_ones_nothing(self) -> None:
        cast = plain_cast(torch.tensor([1000.0, -1000.0, 2.0**-11, 1.0])).float()
        assert cast.tolist() == [E4M3_MAX, -E4M3_MAX, 0.0, 1.0]

    def test_weights_of_the_blocks_linears_are_cast_and_nothing_else(self) -> None:
        stored = FileSource(
            "transformer", weight_files(builtin_model_folder() / "transformer", "diffusion_pytorch_model")
        )
        source = PlainCastSource(stored)
        changed = {name for name in source.names() if not torch.equal(source.read(name), stored.read(name))}
        assert len(changed) == 12 * PROFILE.architecture.layers
        assert all(name.startswith("transformer_blocks.") and "_mod." not in name for name in changed)
        name = "transformer_blocks.0.attn.to_q.weight"
        assert torch.equal(source.read(name), stored.read(name).to(E4M3).bfloat16())

    def test_a_linear_multiplies_what_was_cast(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x, weight = (torch.randn(shape, generator=generator) * 0.02 for shape in ((5, 32), (16, 32)))
        linear = PackedLinear(plain_cast(weight).bfloat16(), torch.ones(16, dtype=torch.bfloat16), None)
        kind = PlainCastLinear(torch.device("cpu"))
        found = torch.empty(5, 16, dtype=torch.bfloat16)
        kind.apply(Activation(x.bfloat16()), linear, found)
        expected = functional.linear(x.bfloat16().to(E4M3).float(), weight.to(E4M3).float()) + 1
        assert torch.equal(found, expected.bfloat16())

    def test_it_is_farther_from_small_numbers_than_with_a_scale(self) -> None:
        x = torch.randn((8, 64), generator=torch.Generator().manual_seed(0)) * 0.004
        scaled = quantise(x, "rowwise")
        with_scale, without = (
            (back - x).norm() / x.norm() for back in (scaled.values.float() * scaled.scale, plain_cast(x).float())
        )
        assert without > 2 * with_scale

    def test_the_engine_runs_on_it(self, model: Model) -> None:
        engine = Engines(model).engine(ROWS["fp8 plain cast 20"])
        assert isinstance(engine.models.transformer.operations._linears, PlainCastLinear)


@pytest.mark.parametrize("name", ["quality.json", "quality-main.json", "quality-text.json"])
def test_the_results_in_the_repository_are_those_of_the_shipped_weights(name: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
    shipped = Model(builtin_model_folder(), builtin_loras_folder(), PROFILE, "cpu")
    assert results["weights"] == weights_hash(shipped), "run benchmarks/quality.py again, then --page"


@pytest.mark.parametrize("precision", rows.GGUF_PRECISIONS)
def test_a_gguf_row_keeps_the_blocks_matrices_in_its_type_and_nothing_else(model: Model, precision: str) -> None:
    kind = precision.removeprefix("gguf ")
    stored = FileSource("transformer", weight_files(builtin_model_folder() / "transformer", "diffusion_pytorch_model"))
    source = GgufSource(stored, kind)
    for name in [*source.names()][:40]:
        kept, found = stored.stored(name), source.stored(name)
        assert found.shape == kept.shape
        if name.startswith("transformer_blocks.") and len(kept.shape) == 2:
            assert (found.kind or "F16") == kind
            assert 0 <= (found.dense() - kept.values.float()).norm() < 0.3 * kept.values.float().norm()
        else:
            assert found.kind is None and torch.equal(found.values, kept.values)


class TestCommand:
    def test_a_run_writes_figures_a_sheet_and_a_plot(self, model: Model, tmp_path: Path) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "quality.py"), "--device", "cpu", "--workers", "2"]
        command += ["--only", rows.MAIN, rows.VAE, "--limit", "1", "--loras", str(model.loras)]
        command += ["--json", "q.json", "--sheet", "s.png", "--plot", "p.png"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert rows.MAIN in done.stdout and "VAE" in done.stdout
        report = json.loads((tmp_path / "q.json").read_text())
        assert (report["schema"], report["benchmark"], report["edits"]) == (1, "quality", 1)
        assert "FP8 simulated" in report["device"] and report["vae"]["fp32"]["pictures"] == 2
        assert report["rows"][0]["groups"]["overall"]["success"]["count"] == 1
        for name in ("p.png", "s.png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    def test_an_unknown_row_is_refused_with_the_names_of_all(self, tmp_path: Path) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "quality.py"), "--only", "bf17 20"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "bf17 20" in done.stderr and rows.LIGHTNING in done.stderr


def test_int8_changes_a_text_encoder_little_and_no_edit() -> None:
    results = json.loads(TEXT_RESULTS.read_text(encoding="utf-8"))
    errors = {name: found["embeddings"] for name, found in results[rows.TEXT].items()}
    int8, fp8 = (errors[f"weights in {text}"] for text in rows.TEXT_PRECISIONS)
    assert int8 < 2 * errors["computed in bf16"] and 2.5 * int8 < fp8
    row = next(each for each in results["rows"] if each["name"] == rows.TEXT_ROWS[0])
    assert abs(row["against_bf16"]["mean_db"]) <= 0.05 and row["against_bf16"]["lost"] == 0

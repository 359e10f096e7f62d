"""The training command with its smallest budget: every stage runs, twice alike, and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tools.tiny_model import optimisers
from tools.tiny_model.__main__ import main
from tools.tiny_model.budgets import FULL, SMOKE
from tools.tiny_model.export import export_loras, export_pipeline
from tools.tiny_model.stage import STAGES
from tools.tiny_model.training import AnotherBudgetError, OutOfTimeError, Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def coarse_updates() -> Iterator[None]:
    """Updates orthogonalised in one iteration: how well that goes is another test's concern, and it takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimisers, "_NEWTON_SCHULZ_STEPS", 1)
        yield


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("run")
    Run(folder, SMOKE, CPU).train(Console(quiet=True))
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    """What was measured, in its order, without the lines that say how long a stage took to begin."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "seconds to prepare" not in line]
    return [{name: value for name, value in line.items() if name != "steps per second"} for line in measured]


def test_every_stage_reports_and_finishes(finished):
    assert {line["stage"] for line in losses(finished)} == set(STAGES)
    assert all((finished / f"{name}.json").exists() for name in STAGES)
    assert not list(finished.glob("*.state"))


def test_two_trainings_with_one_seed_are_alike_though_one_was_in_pieces(finished, tmp_path, console):
    # Its bytes are always the same, which is a test of its own, and making it takes long.
    shutil.copytree(finished / "tokenizer", tmp_path / "tokenizer")
    for name in STAGES:
        with pytest.raises(OutOfTimeError, match=f"{name}: 1 of"):
            Run(tmp_path, SMOKE, CPU, until=time.monotonic()).train(console, (name,))
        Run(tmp_path, SMOKE, CPU).train(console, (name,))
        assert (tmp_path / f"{name}.json").read_text() == (finished / f"{name}.json").read_text()
    assert losses(tmp_path) == losses(finished)
    for part in ("vae", "text_stage", "transformer", "text_encoder", "loras"):
        for file in (finished / part).glob("*.safetensors"):
            assert (tmp_path / part / file.name).read_bytes() == file.read_bytes()


def test_a_folder_belongs_to_one_budget(finished, console):
    with pytest.raises(AnotherBudgetError, match="another budget"):
        Run(finished, FULL, CPU).train(console)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["train", "--folder", "{finished}", "--budget", "full", "--device", "cpu"], "begun with another budget"),
        (["train", "--folder", "{empty}", "--only", "colour"], "invalid choice: 'colour'"),
        (["export", "--folder", "{empty}", "--out", "{empty}/out"], "is no finished training: vae, transformer"),
    ],
    ids=["another budget", "no such stage", "nothing to export"],
)
def test_the_command_says_what_is_wrong(finished, tmp_path, capsys, arguments, reason):
    with pytest.raises(SystemExit):
        main([word.format(finished=finished, empty=tmp_path) for word in arguments])
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_is_a_pipeline_that_the_library_loads(finished, tmp_path):
    from diffusers import QwenImageEditPlusPipeline, QwenImageTransformer2DModel

    size = export_pipeline(finished, tmp_path / "model") + export_loras(finished, tmp_path / "loras")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert size < sum(file.stat().st_size for file in files)
    assert sum(file.stat().st_size for file in (tmp_path / "model").rglob("*") if file.is_file()) < 40_000_000
    assert max(file.stat().st_size for file in files) < 16 << 20
    transformer = QwenImageTransformer2DModel.from_pretrained(tmp_path / "model" / "transformer")
    assert transformer.config.zero_cond_t
    QwenImageEditPlusPipeline.load_config(tmp_path / "model")
    assert {file.name for file in (tmp_path / "loras").iterdir()} == {
        "builtin-lightning-4steps.safetensors",
        "builtin-outline.safetensors",
    }

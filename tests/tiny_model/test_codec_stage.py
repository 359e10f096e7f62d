from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor, nn

from tools.tiny_model import codec_stage
from tools.tiny_model.budgets import Budget, CodecBudget
from tools.tiny_model.codec import LatentStatistics, PictureCodec, make_vae
from tools.tiny_model.codec_stage import STATISTICS_SEED, CodecStage, latent_statistics, losses, trained_parameters
from tools.tiny_model.edits import sample_edit
from tools.tiny_model.random_pictures import random_pictures
from tools.tiny_model.render import render_scenes

CPU = torch.device("cpu")


def budget(steps: int = 5, seed: int = 0) -> Budget:
    return Budget("test", codec=CodecBudget(steps=steps, batch=4, side=16, evaluated=2), seed=seed)


def stage_after(steps: int, seed: int = 0) -> CodecStage:
    stage = CodecStage(budget(seed=seed), CPU)
    for step in range(steps):
        stage.advance(step)
    return stage


def saved(stage: CodecStage) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(stage.state(), file)
    file.seek(0)
    return file


def weights(stage: CodecStage) -> list[Tensor]:
    return [param.detach().clone() for param in stage.state()["updates"]["params"]]


def test_steps_lower_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pictures = random_pictures(4, 16, CPU)
    monkeypatch.setattr(codec_stage, "random_pictures", lambda *size: pictures)
    stage = CodecStage(budget(steps=25), CPU)
    seen = []
    for step in range(20):
        stage.advance(step)
        seen.append(stage.measures())
    assert stage.name == "codec" and stage.total == 25
    # Measures are means over all steps so far.
    assert seen[-1]["l1"] < 0.8 * seen[0]["l1"] and seen[-1]["psnr"] > seen[0]["psnr"] + 1
    assert seen[-1]["norm"] > 0 and seen[-1]["kl"] > 0


def test_a_seed_gives_the_same_weights_and_another_one_others() -> None:
    first, again, other = (weights(stage_after(2, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_a_run_that_was_broken_off_goes_on_as_an_unbroken_one() -> None:
    # The fourth of five steps is the last on small pictures, so that the rest crosses over to large ones.
    half = saved(stage_after(3))
    resumed = CodecStage(budget(), CPU)
    torch.rand(7)
    resumed.load(torch.load(half))
    for step in (3, 4):
        resumed.advance(step)
    unbroken = stage_after(5)
    assert resumed.measures() == unbroken.measures()
    expected, given = (torch.load(saved(stage)) for stage in (unbroken, resumed))
    assert _tensors(given) and all(map(torch.equal, _tensors(given), _tensors(expected)))


def _tensors(tree: object) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [tensor for child in children for tensor in _tensors(child)]


def test_the_last_steps_are_on_large_pictures_in_a_quarter_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []

    def watched(count: int, side: int, device: torch.device) -> Tensor:
        sizes.append((count, side))
        return random_pictures(count, side, device)

    monkeypatch.setattr(codec_stage, "random_pictures", watched)
    stage_after(5)
    assert sizes == [(4, 16)] * 4 + [(1, 32)]


def test_what_single_frames_never_reach_stays_zero() -> None:
    stage = stage_after(2)
    for name, param in stage._vae.named_parameters():
        if param.ndim == 5:
            assert not bool(param[:, :, :-1].any()), name
        assert "time_conv" not in name or not bool(param.any()), name


def test_matrices_and_the_rest_are_all_that_is_trained() -> None:
    vae = make_vae(0)
    matrices, others = trained_parameters(vae)
    names = {id(param): name for name, param in vae.named_parameters()}
    trained = {names[id(param)] for param in (*matrices, *others)}
    assert len(trained) == len(matrices) + len(others)
    assert {name for name in names.values() if name not in trained} == {
        name for name in names.values() if "time_conv" in name
    }
    assert all(param.ndim >= 4 and len(param) >= 16 for param in matrices)
    rest = {
        names[id(param)].rpartition(".")[0] for param in others if param.ndim >= 4 and "norm" not in names[id(param)]
    }
    assert rest == {"encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out"} | {
        "quant_conv",
        "post_quant_conv",
    }


def test_losses_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        """Decodes everything to mid grey, from a posterior of mean 2 and variance 1."""

        def moments(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            return torch.full((1, 16, 1, 1), 2.0), torch.zeros(1, 16, 1, 1)

        def decode(self, latents: Tensor) -> Tensor:
            return torch.zeros(1, 3, 8, 8)

    # Columns of black and white: each pixel is off by 1, each of its neighbours to the side by 2 the other way.
    pictures = (torch.arange(8) % 2).expand(1, 3, 8, 8).float()
    loss, parts = losses(Half(), pictures)  # type: ignore[arg-type]
    assert parts.tolist() == [1.0, 1.0, 2.0]
    assert float(loss) == pytest.approx(1.0 + 2 * 1.0 + 0.5 * 2.0 + 1e-3 * 2.0)


def test_a_step_reads_nothing_back_and_stays_on_its_device() -> None:
    vae = make_vae(0)
    for module in vae.modules():
        for name, param in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(param.to("meta")))
    pictures = random_pictures(2, 32, torch.device("meta"))
    loss, parts = losses(PictureCodec(vae, torch.bfloat16), pictures)
    loss.backward()  # type: ignore[no-untyped-call]
    assert parts.is_meta and all(param.grad is not None for group in trained_parameters(vae) for param in group)


def test_it_writes_the_averaged_weights_in_bf16_with_their_statistics(tmp_path: Path) -> None:
    stage = stage_after(2)
    kept = weights(stage)
    averages = [average.bfloat16() for average in stage.state()["updates"]["ema"]["averages"]]
    measures = stage.finish(tmp_path)
    assert all(map(torch.equal, weights(stage), kept))
    loaded = AutoencoderKLQwenImage.from_pretrained(tmp_path / "vae", torch_dtype=torch.bfloat16)
    written = [param for group in trained_parameters(loaded) for param in group]
    assert all(map(torch.equal, written, averages))
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    statistics = latent_statistics(PictureCodec(loaded, torch.float32), 2, CPU)
    assert (config["latents_mean"], config["latents_std"]) == statistics
    assert set(measures) == {"plain psnr mean", "plain psnr worst", "outlined psnr mean", "outlined psnr worst"}
    assert all(measures[f"{style} psnr worst"] <= measures[f"{style} psnr mean"] for style in ("plain", "outlined"))
    assert 0 < measures["plain psnr worst"] < 30


def test_statistics_are_those_of_each_latent_channel() -> None:
    codec = PictureCodec(make_vae(0), torch.float32)
    mean, std = latent_statistics(codec, 3, CPU)
    rng = Random(STATISTICS_SEED)
    pictures = render_scenes([sample_edit(rng).target for _ in range(3)])
    with torch.no_grad():
        normal = LatentStatistics(mean, std).normalise(codec.moments(pictures * 2 - 1)[0])
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(16), rtol=0, atol=1e-4)

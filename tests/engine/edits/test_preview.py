"""Previews by a tiny autoencoder that fits, by the linear map otherwise; and no edit fails by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from PIL import Image

from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.edits.preview import MAX_DECODED_SIDE, MAX_SIDE, PreviewMap, fit_preview, previews_of
from qied.engine.engine import Engine, EngineOptions
from qied.engine.vae.tiny_decoder import TinyDecoder
from qied.engine.vae.vae import Vae
from qied.planning.layout.preview_decoder import preview_decoder
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from qied.weights.tiny_autoencoder import read_tiny_autoencoder
from tests.engine.vae.tiny_files import SMALL, decoder_of_cells, random_weights, write_tiny

Scene = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def vae(engine: Engine) -> Vae:
    return engine.models.vae


@pytest.fixture(scope="module")
def fitting(vae: Vae, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a decoder for the built-in model's latents, as sharp as the linear map."""
    with torch.inference_mode():
        fitted = fit_preview(vae)
    path = tmp_path_factory.mktemp("vae_approx") / "taew2_1.safetensors"
    return write_tiny(path, decoder_of_cells(fitted.weight, fitted.bias))


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.asarray(first.resize(second.size, Image.Resampling.BICUBIC)).astype(float) - np.asarray(second)
    return float(10 * np.log10(255**2 / (error**2).mean()))


def test_a_decoder_gives_a_picture_in_full_size_where_the_map_gives_cells(
    vae: Vae, scene: Scene, fitting: Path
) -> None:
    picture = scene(256, 192)
    latents = vae.encode(picture, picture.size)
    decoded, mapped = (previews_of(vae, file).picture(latents) for file in (fitting, None))
    assert decoded.size == (256, 192) and mapped.size == (32, 24)
    assert psnr(decoded, picture) > 15


def test_previews_are_capped_in_size(vae: Vae, fitting: Path) -> None:
    for rows, columns in ((8, 80), (66, 66)):
        latents = torch.zeros(1, 16, rows, columns)
        decoded, mapped = (previews_of(vae, file).picture(latents) for file in (fitting, None))
        assert max(decoded.size) <= MAX_DECODED_SIDE and max(mapped.size) <= MAX_SIDE
        assert max(decoded.size) > MAX_DECODED_SIDE * 3 // 4
        assert abs(decoded.size[0] * rows / columns - decoded.size[1]) <= 1


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def for_other_latents(path: Path) -> None:
    write_tiny(path, random_weights(SMALL))


def of_no_numbers(path: Path) -> None:
    write_tiny(path, {name: weight * torch.nan for name, weight in random_weights(SMALL).items()})


@pytest.mark.parametrize("fault", [damaged, for_other_latents, of_no_numbers, Path.unlink])
def test_a_file_that_does_not_fit_is_told_and_the_linear_map_is_used(
    vae: Vae, fitting: Path, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    path = tmp_path / "taew2_1.safetensors"
    path.write_bytes(fitting.read_bytes())
    fault(path)
    with structlog.testing.capture_logs() as logs:
        previews = previews_of(vae, path)
    assert isinstance(previews, PreviewMap)
    assert logs[0]["file"] == str(path) and "linear map" in logs[0]["event"] and logs[0]["remedy"]


@pytest.fixture(scope="module")
def decoding(profile: ModelProfile, execution: Callable[..., Execution], fitting: Path) -> Engine:
    """The built-in model with its tiny autoencoder, as a worker has it."""
    cost = preview_decoder(fitting.name, read_tiny_autoencoder(fitting, 16))
    files = replace(pipeline_checkpoint(builtin_model_folder()), tiny_autoencoder=str(fitting))
    options = EngineOptions(execution=execution(preview_decoder=cost))
    return Engine.load(files, profile, options, lambda *_: None)


def test_an_edit_shows_what_the_decoder_makes_and_ends_as_without(
    engine: Engine,
    decoding: Engine,
    spec: Callable[..., EditSpec],
    scene: Scene,
    finish: Callable[[Edit], list[Advance]],
) -> None:
    wanted = spec(width=128, height=128, steps=3, preview_every=1)
    units = {each: finish(each.begin(wanted, {"a": scene(128, 128)}, None)) for each in (engine, decoding)}
    sizes = {each: [unit.preview.size for unit in done if unit.preview is not None] for each, done in units.items()}
    assert sizes == {engine: [(16, 16)] * 2, decoding: [(128, 128)] * 2}
    assert units[engine][-1].image.tobytes() == units[decoding][-1].image.tobytes()  # type: ignore[union-attr]
    assert decoding.memory_bytes() - engine.memory_bytes() == decoding.context.preview.nbytes > 0


def test_where_memory_runs_out_the_edit_goes_on_with_the_linear_map(
    decoding: Engine,
    spec: Callable[..., EditSpec],
    scene: Scene,
    finish: Callable[[Edit], list[Advance]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TinyDecoder, "decode", fail)
    wanted = spec(width=128, height=128, steps=3, preview_every=1)
    with structlog.testing.capture_logs() as logs:
        units = finish(decoding.begin(wanted, {"a": scene(128, 128)}, None))
    assert [unit.preview.size for unit in units if unit.preview is not None] == [(16, 16)] * 2
    assert units[-1].image is not None and len(logs) == 1

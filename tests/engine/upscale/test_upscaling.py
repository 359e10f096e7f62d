"""Pictures through upscaling models: sizes, tiles, and the small model that is shipped."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported
from safetensors.torch import save_file

from qied.engine.upscale.loading import load_network
from qied.engine.upscale.networks import Compact, network_of
from qied.engine.upscale.upscaling import UpscalerLibrary
from qied.planning.edits.upscaling import UpscalerPrecision
from qied.resources import builtin_upscalers_folder
from qied.upscalers.catalogue import UpscalerFile
from tests.upscalers.test_contents import COMPACT, KINDS, RRDB, middle_names, old_names, weights
from tools.tiny_model.render import render_scenes
from tools.tiny_model.scenes import sample_scene

BUILTIN = builtin_upscalers_folder() / "builtin-2x.safetensors"


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def upscaled(
    path: Path, picture: Image.Image, room: int = 10**10, precision: UpscalerPrecision = "fp32"
) -> tuple[Image.Image, int]:
    file = UpscalerFile(str(path), load_network(path)[1], precision)
    units = list(UpscalerLibrary({"it": file}).upscaled(picture, "it", room))
    assert [number for number, _, _ in units] == list(range(1, len(units) + 1)) and {n for _, n, _ in units} == {
        len(units)
    }
    assert all(image is None for _, _, image in units[:-1])
    made = units[-1][2]
    assert made is not None
    return made, len(units)


@pytest.mark.parametrize("facts", KINDS.values(), ids=KINDS)
def test_each_side_is_so_many_times_as_long_whatever_the_size(facts, tmp_path: Path):
    save_file(weights(facts), tmp_path / "a.safetensors")
    for size in ((48, 32), (33, 17), (1, 1)):
        made, tiles = upscaled(tmp_path / "a.safetensors", noise(*size))
        assert made.size == (size[0] * facts.scale, size[1] * facts.scale) and tiles == 1


def test_old_and_pickled_files_give_the_same_picture(tmp_path: Path):
    tensors = weights(RRDB)
    save_file(tensors, tmp_path / "new.safetensors")
    torch.save({"params_ema": middle_names(tensors)}, tmp_path / "later.pth")
    torch.save(old_names(tensors, 2), tmp_path / "first.pth", _use_new_zipfile_serialization=False)
    picture = noise(24, 20)
    expected, _ = upscaled(tmp_path / "new.safetensors", picture)
    for name in ("later.pth", "first.pth"):
        assert upscaled(tmp_path / name, picture)[0].tobytes() == expected.tobytes()


def test_tiles_make_the_picture_that_is_made_whole(tmp_path: Path):
    """A compact network of few layers sees less far than a tile's margin."""
    save_file(weights(COMPACT), tmp_path / "a.safetensors")
    picture = noise(150, 90)
    whole, one = upscaled(tmp_path / "a.safetensors", picture)
    tiled, many = upscaled(tmp_path / "a.safetensors", picture, room=0)
    assert (one, many) == (1, 6)
    difference = np.abs(np.asarray(whole, int) - np.asarray(tiled, int))
    assert difference.max() <= 1, "the order of sums may differ"


def test_the_shipped_model_is_nearer_to_the_truth_than_bicubic():
    rng = Random(7)
    errors = np.zeros(2)
    for picture in render_scenes([sample_scene(rng, 1 + number % 4) for number in range(8)]):
        truth = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
        small = truth.resize((truth.width // 2, truth.height // 2), Image.Resampling.BICUBIC)
        made, _ = upscaled(BUILTIN, small)
        plain = small.resize(truth.size, Image.Resampling.BICUBIC)
        errors += [np.square(np.asarray(each, float) - np.asarray(truth, float)).mean() for each in (made, plain)]
    assert errors[0] < errors[1] * 0.5


def test_a_file_that_is_gone_or_another_one_ends_the_edit_with_what_to_do(tmp_path: Path):
    library = UpscalerLibrary({"it": UpscalerFile(str(tmp_path / "a.safetensors"), COMPACT)})
    with pytest.raises(ModelUnsupported, match=r"a.safetensors cannot be used as an upscaler"):
        next(library.upscaled(noise(8, 8), "it", 0))
    save_file(weights(RRDB), tmp_path / "a.safetensors")
    with pytest.raises(ModelUnsupported, match="another model than when the daemon started"):
        next(library.upscaled(noise(8, 8), "it", 0))


def test_half_precision_runs_where_the_order_says_so(tmp_path: Path):
    save_file(weights(COMPACT), tmp_path / "a.safetensors")
    picture = noise(40, 24)
    exact, _ = upscaled(tmp_path / "a.safetensors", picture)
    half, _ = upscaled(tmp_path / "a.safetensors", picture, precision="bf16")
    difference = np.abs(np.asarray(exact, int) - np.asarray(half, int))
    assert 0 < difference.max() <= 8, "another precision, and the same picture"


@pytest.mark.parametrize("most", [300, 130, 100])
def test_a_tile_that_memory_does_not_hold_is_run_in_smaller_ones(most, tmp_path: Path, monkeypatch):
    save_file(weights(COMPACT), tmp_path / "a.safetensors")
    picture = noise(250, 140)
    whole, _ = upscaled(tmp_path / "a.safetensors", picture)
    sides = []

    def forward(self, pictures, forward=Compact.forward):
        sides.append(max(pictures.shape[-2:]))
        if sides[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return forward(self, pictures)

    monkeypatch.setattr(Compact, "forward", forward)
    if most == 100:
        with pytest.raises(torch.OutOfMemoryError):
            upscaled(tmp_path / "a.safetensors", picture)
        return
    made, units = upscaled(tmp_path / "a.safetensors", picture)
    assert units == 1 and np.abs(np.asarray(made, int) - np.asarray(whole, int)).max() <= 1
    assert sum(side > most for side in sides) <= 2, "what was too large is not tried again"


def test_networks_have_just_the_tensors_of_their_files():
    for facts in KINDS.values():
        assert {name: tuple(value.shape) for name, value in network_of(facts).state_dict().items()} == {
            name: tuple(value.shape) for name, value in weights(facts).items()
        }

"""Models of architectures that spandrel knows: told, counted, run in tiles, and refused where they are no upscalers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from qied_client.errors import ModelUnsupported
from safetensors.torch import save_file
from torch import Tensor

from qied.engine.selftest.upscalers import counted_bytes, shown
from qied.engine.upscale import loading
from qied.engine.upscale.live_bytes import live_bytes
from qied.engine.upscale.loading import load_network
from qied.engine.upscale.spandrel_models import SpandrelNetwork, _spandrel
from qied.planning.edits.upscaling import MARGIN_PX, UpscalerFacts, upscale_bytes
from tests.engine.upscale.test_upscaling import noise, upscaled

spandrel = _spandrel()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def plksr() -> dict[str, Tensor]:
    from spandrel.architectures.PLKSR import PLKSR

    torch.manual_seed(0)
    with torch.inference_mode(False):
        return PLKSR(dim=16, upscaling_factor=4, n_blocks=2, kernel_size=9).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in plksr().items()}, tmp_path / "4x.safetensors")
    return tmp_path / "4x.safetensors"


def test_the_architecture_and_its_scale_are_told_and_what_it_takes_is_counted(file: Path):
    network, facts = load_network(file)
    assert isinstance(network, SpandrelNetwork) and "fp16" in network.precisions
    parameters = sum(value.numel() for value in plksr().values())
    assert facts == UpscalerFacts("PLKSR", 4, 0, 0, 0, 1, parameters)
    taken = counted_bytes(network)
    # At least the picture and the result, and no less than a tile of each size takes.
    assert taken >= 4 * 3 * (1 + 4**2)
    for tile in (64, 128):
        side = tile + 2 * MARGIN_PX
        assert live_bytes(network, torch.zeros(1, 3, side, side)) <= upscale_bytes(
            UpscalerFacts("PLKSR", 4, 0, 0, 0, 1, 0, pixel_bytes=taken), tile
        )


def test_a_model_that_cannot_be_counted_without_computing_is_run(file: Path, monkeypatch):
    network, _ = load_network(file)
    plain = counted_bytes(network)

    def forward(self, pictures, forward=SpandrelNetwork.forward):
        if pictures.device.type == "meta":
            raise RuntimeError("Cannot copy out of meta tensor; no data!")
        return forward(self, pictures)

    monkeypatch.setattr(SpandrelNetwork, "forward", forward)
    assert counted_bytes(network) == plain


def test_tiles_make_the_picture_that_is_made_whole(file: Path):
    picture = noise(150, 70)
    whole, one = upscaled(file, picture)
    tiled, many = upscaled(file, picture, room=0)
    assert (one, many) == (1, 6) and whole.size == tiled.size == (600, 280)
    assert np.abs(np.asarray(whole, int) - np.asarray(tiled, int)).max() <= 1


def test_pickled_files_are_read_and_run_nothing(file: Path, tmp_path: Path):
    torch.save({"params": plksr()}, tmp_path / "4x.pth")
    picture = noise(20, 24)
    assert upscaled(tmp_path / "4x.pth", picture)[0].tobytes() == upscaled(file, picture)[0].tobytes()

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"params": plksr(), "more": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModelUnsupported, match=r"evil.pth"):
        load_network(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_upscaler_of_colours_is_refused_by_name(tmp_path: Path):
    from spandrel.architectures.DnCNN import DnCNN
    from spandrel.architectures.FBCNN import FBCNN

    with torch.inference_mode(False):
        grey = DnCNN(in_nc=1, out_nc=1, nc=8, nb=4, act_mode="R").state_dict()
        other = FBCNN(in_nc=1, out_nc=1, nc=[8, 8, 8, 8], nb=1).state_dict()
    for name, state in (("grey", grey), ("fbcnn", other), ("unknown", {"strange.weight": torch.zeros(3)})):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / f"{name}.safetensors")
        with pytest.raises(ModelUnsupported, match=f"{name}.safetensors cannot be used as an upscaler: "):
            load_network(tmp_path / f"{name}.safetensors")


def test_without_the_package_the_command_that_installs_it_is_told(file: Path, monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ModelUnsupported) as refused:
        load_network(file)
    assert "-m pip install --no-deps 'spandrel>=" in refused.value.remedy


def test_no_torchvision_is_left_behind_for_others_to_find():
    stands_in = [name for name in sys.modules if name.startswith("torchvision") and not sys.modules[name].__file__]
    assert not stands_in


def test_a_half_precision_is_taken_where_it_is_near_enough_and_else_not(file: Path, monkeypatch):
    told = shown(file, torch.device("cpu")).facts
    assert told["precision"] == "fp16" and told["fp16"] <= 1 / 255 and told["measured_bytes"] == 0

    def forward(self, pictures, forward=SpandrelNetwork.forward):
        made = forward(self, pictures)
        if pictures.dtype is torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return made + 0.01 if pictures.dtype is torch.float16 else made

    monkeypatch.setattr(SpandrelNetwork, "forward", forward)
    told = shown(file, torch.device("cpu")).facts
    assert told["precision"] == "fp32" and told["bf16"] == 1.0 and 0.005 < told["fp16"] < 0.02

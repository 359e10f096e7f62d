"""A tiny autoencoder's decoder computes what its layers say one by one, from the file that it is recognised in."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qied.engine.vae.tiny_decoder import TinyDecoder, load_tiny_decoder
from qied.planning.layout.memory import DECODE_CANVAS, MemoryModel, Precisions
from qied.planning.layout.preview_decoder import preview_decoder
from qied.planning.profiles.model_profile import ModelProfile
from qied.weights.problems import BadFile
from qied.weights.tiny_autoencoder import TinyDecoderShape, read_tiny_autoencoder
from tests.engine.vae.tiny_files import FULL, SMALL, plainly_decoded, random_weights, write_tiny

CPU = torch.device("cpu")
SHAPES = {
    "full": FULL,
    "small": SMALL,
    "one frame": TinyDecoderShape(16, (24, 16, 12, 8), (1, 1, 1)),
    "eight frames": TinyDecoderShape(16, (8, 12, 8, 4), (2, 2, 2)),
}


def loaded(path: Path, dtype: torch.dtype = torch.float32, tile_px: int | None = None) -> TinyDecoder:
    return load_tiny_decoder(path, 16, CPU, dtype, tile_px)


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_frame_of_latents_becomes_the_last_of_all_frames(tmp_path: Path, shape: TinyDecoderShape) -> None:
    weights = random_weights(shape)
    path = write_tiny(tmp_path / "taew2_1.safetensors", weights, torch.float32)
    latents = 2 * torch.randn((1, 16, 3, 4), generator=torch.Generator().manual_seed(1))
    assert read_tiny_autoencoder(path, 16) == shape
    found, meant = loaded(path).decode(latents), plainly_decoded(weights, latents)
    assert found.shape == meant.shape == (3, 24, 32)
    assert (found - meant).norm() <= 1e-5 * meant.norm() and meant.std() > 0.01


def test_16_bits_in_the_file_are_used_as_they_are(tmp_path: Path) -> None:
    weights, latents = random_weights(SMALL), torch.randn(1, 16, 4, 4)
    for dtype in (torch.float16, torch.bfloat16):
        path = write_tiny(tmp_path / f"{dtype}.safetensors", weights, dtype)
        meant = plainly_decoded({name: weight.to(dtype) for name, weight in weights.items()}, latents)
        assert (loaded(path).decode(latents) - meant).norm() <= 1e-5 * meant.norm()


def test_large_pictures_are_decoded_in_tiles_that_join(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "t.safetensors", random_weights(SMALL))
    latents = torch.randn((1, 16, 32, 56), generator=torch.Generator().manual_seed(2))
    whole, tiled = loaded(path).decode(latents), loaded(path, tile_px=256).decode(latents)
    assert whole.shape == tiled.shape == (3, 256, 448)
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).norm() < 0.1 * (whole - whole.mean()).norm()


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: weight for key, weight in weights.items() if key != name}


BAD: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "of another kind": (lambda _: {"model.weight": torch.zeros(3)}, "not a tiny autoencoder"),
    "of another model": (lambda _: random_weights(TinyDecoderShape(48, (8, 8, 8, 8), (1, 2, 2))), "48 channels"),
    "lacks a block": (lambda w: without(w, "decoder.10.conv.2.weight"), "lacks 'decoder.10.conv.2.weight'"),
    "lacks a growth": (lambda w: without(w, "decoder.13.conv.weight"), "decoder.13.conv.weight"),
    "patches of pixels": (lambda w: {**w, "decoder.22.weight": torch.zeros(12, 8, 3, 3)}, "decoder.22.weight"),
    "no convolution": (lambda w: {**w, "decoder.14.weight": torch.zeros(5)}, "decoder.14.weight"),
    "integers": (lambda w: {**w, "decoder.22.bias": torch.zeros(3, dtype=torch.int8)}, "stored as I8"),
}


@pytest.mark.parametrize("fault", BAD)
def test_any_other_file_is_refused_with_what_is_wrong(tmp_path: Path, fault: str) -> None:
    change, said = BAD[fault]
    path = tmp_path / "tae.safetensors"
    save_file(change(random_weights(SMALL)), path)
    with pytest.raises(BadFile) as caught:
        read_tiny_autoencoder(path, 16)
    assert said in caught.value.what and "taew2_1" in caught.value.remedy


def test_a_cut_file_and_a_pickle_are_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tae.safetensors", random_weights(SMALL))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadFile):
        read_tiny_autoencoder(path, 16)
    torch.save({"decoder.22.bias": torch.zeros(3)}, tmp_path / "taew2_1.pth")
    with pytest.raises(BadFile, match="pickle"):
        read_tiny_autoencoder(tmp_path / "taew2_1.pth", 16)


class Peak(TorchDispatchMode):
    """Bytes of tensors that exist at once at most, of those that are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        place = storage._cdata
        if place in self._seen:
            return
        self._seen.add(place)
        self._now += storage.nbytes()
        self.bytes = max(self.bytes, self._now)
        weakref.finalize(storage, self._gone, place, storage.nbytes())

    def _gone(self, place: int, nbytes: int) -> None:
        self._seen.discard(place)
        self._now -= nbytes


@pytest.mark.parametrize("shape", [SMALL, SHAPES["eight frames"]], ids=str)
def test_what_is_counted_of_a_picture_is_what_it_takes(
    tmp_path: Path, profile: ModelProfile, shape: TinyDecoderShape
) -> None:
    decoder = loaded(write_tiny(tmp_path / "t.safetensors", random_weights(shape)))
    cost = preview_decoder("t", shape)
    assert decoder.nbytes == 4 * cost.parameters
    memory = MemoryModel(profile, Precisions("fp32", None, "fp32"), "cpu", preview=cost)
    plain = MemoryModel(profile, Precisions("fp32", None, "fp32"), "cpu")
    assert memory.weights("resident").rest - plain.weights("resident").rest == decoder.nbytes
    pixels = 96 * 128
    with torch.inference_mode(False), torch.no_grad(), Peak() as peak:
        decoder.decode(torch.zeros(1, 16, 12, 16))
    counted = memory._preview(pixels, pixels) - 2 * DECODE_CANVAS * pixels
    # A convolution on a card may want its input in another order, for which there is as much again.
    assert 0.3 * counted <= peak.bytes <= counted
    assert plain._preview(pixels, pixels) == 0

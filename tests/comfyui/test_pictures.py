"""What nodes do without a daemon: tensors to pictures and back, masks, seeds, keys, and hearing of a cancel."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zmq
from PIL import Image
from qied_client.credentials import Credential, login_file
from qied_client.errors import InvalidRequest
from qied_client.protocol import limits

from qied.server.access.keys import write_credential
from tests.comfyui import api
from tests.comfyui.host import Host


def opened(file: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_level_goes_there_and_comes_back(comfy: Host, dtype: torch.dtype, channels: int) -> None:
    pictures = comfy.part("pictures")
    levels = torch.arange(256).byte().reshape(1, 16, 16, 1).repeat(2, 1, 1, channels)
    files = pictures.pictures_of((levels.float() / 255).to(dtype), "image1")
    assert all(np.array_equal(opened(file), levels[0].numpy()) for file in files) and len(files) == 2
    assert torch.equal(pictures.image_of(files), levels.float() / 255)


def test_values_are_rounded_and_clipped(comfy: Host) -> None:
    image = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0]).reshape(1, 1, 6, 1).repeat(1, 1, 1, 3)
    (file,) = comfy.part("pictures").pictures_of(image, "image1")
    assert opened(file)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_one_transparent_result_makes_all_of_the_batch_have_four_channels(comfy: Host) -> None:
    files = []
    for mode, colour in (("RGB", (1, 2, 3)), ("RGBA", (4, 5, 6, 7))):
        file = io.BytesIO()
        Image.new(mode, (2, 2), colour).save(file, "PNG")
        files.append(file.getvalue())
    image = comfy.part("pictures").image_of(files)
    assert (image[:, 0, 0] * 255).round().int().tolist() == [[1, 2, 3, 255], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(1, 4, 4, 2), "is not an IMAGE"),
        (torch.zeros(4, 4), "is not an IMAGE"),
        (torch.zeros(1, 0, 4, 3), "is not an IMAGE"),
        (torch.full((1, 4, 4, 3), torch.nan), "pixels that are not numbers"),
        (torch.full((1, 4, 4, 3), torch.inf), "pixels that are not numbers"),
    ],
)
def test_what_is_not_a_picture_is_refused_by_its_input(comfy: Host, image: torch.Tensor, said: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"image2: .*{said}") as refused:
        comfy.part("pictures").pictures_of(image, "image2")
    assert refused.value.details["field"] == "image2" and refused.value.remedy


def test_masks_of_every_shape_are_gray_pictures(comfy: Host) -> None:
    masks_of = comfy.part("pictures").masks_of
    mask = torch.zeros(5, 7)
    mask[1, 2] = 1
    for given_as in (mask, mask[None], mask[None, :, :, None], mask[None, None]):
        (file,) = masks_of(given_as, "mask")
        assert np.array_equal(opened(file), (mask * 255).byte().numpy())
    assert len(masks_of(mask.repeat(3, 1, 1), "mask")) == 3


def test_only_the_mask_of_load_image_is_no_mask(comfy: Host) -> None:
    masks_of = comfy.part("pictures").masks_of
    assert masks_of(torch.zeros(1, 64, 64), "mask") is None
    assert masks_of(torch.zeros(2, 64, 64), "mask") is None
    assert masks_of(torch.ones(1, 64, 64), "mask") is not None
    with pytest.raises(InvalidRequest, match=r"mask: it marks nothing\. Its largest value is 0\.40"):
        masks_of(torch.full((1, 256, 256), 0.4), "mask")
    with pytest.raises(InvalidRequest, match="is not a MASK"):
        masks_of(torch.zeros(1, 4, 4, 3), "mask")


def test_the_pictures_of_a_batch_have_seeds_one_after_the_other(comfy: Host) -> None:
    next_seed = comfy.part("nodes.inputs").next_seed
    assert [next_seed(7, number) for number in range(3)] == [7, 8, 9]
    assert [next_seed(limits.SEED - 1, number) for number in range(3)] == [limits.SEED - 1, limits.SEED, 0]


def test_a_key_is_a_path_or_a_name_in_the_folder_for_configuration(
    comfy: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    server = comfy.part("daemon.connections").Server
    assert server().key_file is None
    assert server("studio").key_file == login_file(os.environ).with_name("studio.key.json")
    assert server("/keys/studio").key_file == Path("/keys/studio")
    assert server("studio.json").key_file == Path("studio.json")
    assert server("~/studio.json").key_file == tmp_path / "studio.json"


def test_cancel_is_heard_while_nothing_answers(comfy: Host) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody_listens.getsockname()[1]}"
        key = comfy.input.parent / "studio.key.json"
        public, secret = (each.decode() for each in zmq.curve_keypair())
        write_credential(key, Credential("lin", address, public, public, secret))
        graph = {"1": {"class_type": "QiedServer", "inputs": {"key": str(key)}}}
        done = comfy.run(graph, api.Seen(on_text=lambda node, text: comfy.interrupt()))
    assert isinstance(done.error, api.InterruptProcessingException) and done.seen.of("1") == ["connecting"]

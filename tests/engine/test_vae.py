from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image
from qied_client.errors import JobFailed

from qied.engine.engine import Engine
from qied.engine.preview import MAX_SIDE, fit_preview
from qied.engine.single_frame import FrameConv
from qied.engine.vae import Vae
from qied.resources import builtin_model_folder

Scene = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def vae(engine: Engine) -> Vae:
    return engine._bench.models.vae


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.asarray(first).astype(float) - np.asarray(second)
    return float(10 * np.log10(255**2 / (error**2).mean()))


def test_single_frames_give_what_the_whole_network_gives(vae: Vae, scene: Scene) -> None:
    original = AutoencoderKLQwenImage.from_pretrained(builtin_model_folder() / "vae", torch_dtype=torch.float32)
    pixels = torch.from_numpy(np.array(scene(96, 64))).permute(2, 0, 1)[None] / 127.5 - 1
    latents = original.encode(pixels.unsqueeze(2)).latent_dist.mode()
    expected = (latents[:, :, 0] - vae.mean.view(1, -1, 1, 1)) / vae.deviation.view(1, -1, 1, 1)
    encoded = vae.encode_pixels(pixels)
    torch.testing.assert_close(encoded, expected, atol=1e-4, rtol=1e-4)
    decoded = original.decode(latents, return_dict=False)[0][0, :, 0]
    levels = ((decoded * 0.5 + 0.5) * 255).round().permute(1, 2, 0).to(torch.uint8)
    assert np.abs(np.asarray(vae.decode(encoded)).astype(int) - levels.numpy()).max() <= 1


def test_no_three_dimensional_convolution_is_left(vae: Vae) -> None:
    kinds = [type(module) for module in vae.model.modules()]
    assert torch.nn.Conv3d not in {base for kind in kinds for base in kind.__mro__}
    assert kinds.count(FrameConv) > 20


def test_a_picture_survives_encoding_and_decoding(vae: Vae, scene: Scene) -> None:
    picture = scene(256, 192)
    assert psnr(vae.decode(vae.encode(picture, (256, 192))), picture) > 38


def test_pictures_are_resized_before_encoding(vae: Vae, scene: Scene) -> None:
    assert vae.encode(scene(300, 200), (96, 64)).shape == (1, 16, 8, 12)


def test_a_result_that_is_not_a_number_is_an_error(vae: Vae) -> None:
    latents = torch.zeros(1, 16, 8, 8)
    latents[0, 3, 2, 2] = float("nan")
    with pytest.raises(JobFailed, match="not numbers"):
        vae.decode(latents)


def test_previews_look_like_the_picture(vae: Vae, scene: Scene) -> None:
    picture = scene(256, 256)
    preview = fit_preview(vae).picture(vae.encode(picture, picture.size))
    assert preview.size == (32, 32)
    assert psnr(preview, picture.resize((32, 32), Image.Resampling.BOX)) > 20


def test_the_preview_map_is_the_same_at_every_load(vae: Vae) -> None:
    first, second = fit_preview(vae), fit_preview(vae)
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)


@pytest.mark.parametrize(("rows", "columns", "size"), [(20, 30, (30, 20)), (128, 512, (MAX_SIDE, 64))])
def test_previews_have_a_pixel_a_cell_up_to_the_cap(
    engine: Engine, rows: int, columns: int, size: tuple[int, int]
) -> None:
    assert engine._bench.preview.picture(torch.zeros(1, 16, rows, columns)).size == size

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image, ImageDraw
from qied_client.errors import JobFailed

from qied.engine.edits.preview import MAX_SIDE, fit_preview
from qied.engine.engine import Engine
from qied.engine.vae.single_frame import FrameConv
from qied.engine.vae.vae import Vae
from qied.planning.profiles.tile_grid import MARGIN_PX, tile_grid
from qied.resources import builtin_model_folder

Scene = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def vae(engine: Engine) -> Vae:
    return engine.models.vae


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A picture of 512 x 384 with shades, texture and sharp edges everywhere."""
    noise = np.random.default_rng(3)
    octaves = [Image.fromarray(noise.integers(0, 256, (2**n, 2**n, 3), dtype=np.uint8)) for n in range(2, 7)]
    layers = [np.asarray(octave.resize((512, 384), Image.Resampling.BICUBIC), float) for octave in octaves]
    shades = np.average(layers, axis=0, weights=[0.5**n for n in range(5)])
    picture = Image.fromarray(shades.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y, side, *colour = (int(value) for value in noise.integers(0, (512, 384, 96, 256, 256, 256)))
        (pen.ellipse if side % 2 else pen.rectangle)((x, y, x + side, y + side // 2), fill=tuple(colour))
    return picture


@pytest.fixture(scope="module")
def untiled(vae: Vae, photo: Image.Image) -> tuple[torch.Tensor, Image.Image]:
    with torch.inference_mode():
        latents = vae.encode(photo, photo.size)
        return latents, vae.decode(latents)


def tiled(vae: Vae, side: int) -> Vae:
    return replace(vae, encode_tile_px=side, decode_tile_px=side)


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
    assert engine.context.preview.picture(torch.zeros(1, 16, rows, columns)).size == size


@pytest.mark.parametrize("side", [256, 384])
def test_decoding_in_tiles_gives_nearly_what_decoding_whole_gives(
    vae: Vae, untiled: tuple[torch.Tensor, Image.Image], side: int
) -> None:
    latents, whole = untiled
    assert psnr(tiled(vae, side).decode(latents), whole) > 55


@pytest.mark.parametrize("side", [256, 384])
def test_encoding_in_tiles_gives_nearly_what_encoding_whole_gives(
    vae: Vae, photo: Image.Image, untiled: tuple[torch.Tensor, Image.Image], side: int
) -> None:
    latents, whole = untiled
    encoded = tiled(vae, side).encode(photo, photo.size)
    assert (encoded - latents).abs().max() < 0.05 * latents.std()
    assert psnr(vae.decode(encoded), whole) > 55


def test_no_seam_shows_between_tiles(vae: Vae, untiled: tuple[torch.Tensor, Image.Image]) -> None:
    latents, whole = untiled
    result = tiled(vae, 256)._decode_pixels(latents) * 127.5
    error = result - vae._decode_pixels(latents) * 127.5
    jumps = error.diff(dim=-1).abs().mean(dim=(0, 1))
    grid = tile_grid(*whole.size, 256)
    starts = [start + margin for start in grid.starts_x[1:] for margin in (0, MARGIN_PX)]
    ends = [start + grid.width - margin for start in grid.starts_x[:-1] for margin in (0, MARGIN_PX)]
    at_seams = jumps[[line - 1 for line in starts + ends]]
    assert at_seams.max() < 0.1
    assert at_seams.mean() < 2 * jumps.mean()


def test_a_picture_of_at_most_a_tile_is_done_whole(vae: Vae, scene: Scene) -> None:
    picture = scene(256, 192)
    whole = vae.encode(picture, picture.size)
    assert torch.equal(tiled(vae, 256).encode(picture, picture.size), whole)
    assert np.array_equal(tiled(vae, 256).decode(whole), vae.decode(whole))


@pytest.mark.parametrize(("width", "height"), [(640, 128), (264, 512)])
def test_the_network_never_sees_more_than_a_tile(vae: Vae, scene: Scene, width: int, height: int) -> None:
    seen: list[tuple[int, ...]] = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: seen.append((*inputs[0].shape, *output.shape)))
        for module in (vae.model.encoder, vae.model.decoder)
    ]
    picture = scene(width, height)
    result = tiled(vae, 256).decode(tiled(vae, 256).encode(picture, picture.size))
    for hook in hooks:
        hook.remove()
    assert result.size == (width, height)
    assert len(seen) == 2 * tile_grid(width, height, 256).count
    assert all(side <= 256 for shape in seen for side in shape[3:5] + shape[8:10])


def test_tiles_give_the_same_bytes_every_time(vae: Vae, untiled: tuple[torch.Tensor, Image.Image]) -> None:
    latents, _ = untiled
    first, second = (tiled(vae, 256).decode(latents.clone()) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tile_that_is_not_a_number_is_an_error(vae: Vae, value: float) -> None:
    latents = torch.zeros(1, 16, 8, 40)
    latents[0, 3, 2, 35] = value
    with pytest.raises(JobFailed, match="not numbers"):
        tiled(vae, 256).decode(latents)

"""An edit as ComfyUI does it: every tensor up to the model against its formulas, written down here a second time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from qied_client.protocol.request import Compat
from torch.nn import functional

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.denoise import initial_noise, noise_as_comfyui, pack, unpack, whole_tokens
from qied.engine.edits.edit import Edit
from qied.engine.edits.guidance import guided_as_comfyui
from qied.engine.engine import Engine
from qied.engine.sigmas import simple_sigmas
from qied.engine.text.patches import comfyui_patches
from qied.engine.transformer.rope import Rope, comfyui_positions
from qied.pictures.reduced import averaged, colours_of, view_of
from qied.planning.edits.view import View
from tests.engine.edits.test_passes import forwards_of

AXES = (16, 56, 56)
CPU = torch.device("cpu")
Tokens = torch.Tensor


def test_sigmas_are_those_of_the_scheduler_simple_over_200_cases() -> None:
    draw = random.Random(1)
    for _ in range(200):
        shift = draw.choice([1.0, 1.15, 3.0, 3.1, draw.uniform(0.05, 12)])
        steps, denoise = draw.randint(1, 200), draw.choice([1.0, 0.99995, draw.uniform(0.02, 1)])
        t = (np.arange(1, 1001) / 1000).astype(np.float32)
        table = t if shift == 1 else np.float32(shift) * t / (np.float32(1) + np.float32(shift - 1) * t)
        assert table.dtype == np.float32
        whole = steps if denoise > 0.9999 else int(steps / denoise)
        expected = [*(table[1000 - 1 - int(i * (1000 / whole))] for i in range(whole)), np.float32(0)][-(steps + 1) :]
        found = simple_sigmas(shift, steps, denoise)
        assert found.dtype == torch.float32 and found.tolist() == [float(sigma) for sigma in expected]
        exact = [shift * x / (1 + (shift - 1) * x) for x in (1 - int(i * (1000 / whole)) / 1000 for i in range(whole))]
        np.testing.assert_allclose(found[:-1].numpy(), exact[-steps:], rtol=1e-5)
    assert simple_sigmas(3.1, 4)[0] == 1.0


def positions(sides: list[tuple[int, int]], text: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Of pictures of so many latent cells, as img_ids and txt_ids have them."""
    image: list[tuple[int, ...]] = []
    for index, (high, wide) in enumerate(sides):
        rows, columns = (high + 1) // 2, (wide + 1) // 2
        image += [(index, y - rows // 2, x - columns // 2) for y in range(rows) for x in range(columns)]
    high, wide = sides[0]
    start = round(max(((wide + 1) // 2) // 2, ((high + 1) // 2) // 2))
    return image, [(start + n,) * 3 for n in range(text)]


def test_positions_are_those_of_comfyui_over_200_cases_and_rotate_by_its_angles() -> None:
    draw = random.Random(2)
    rope = Rope(AXES)
    omega = [1.0 / 10000 ** (2 * np.arange(axis // 2) / axis) for axis in AXES]
    for case in range(200):
        sides = [(draw.randint(2, 60), draw.randint(2, 60)) for _ in range(draw.randint(1, 4))]
        text = draw.randint(1, 300)
        shapes = [(1, (high + 1) // 2, (wide + 1) // 2) for high, wide in sides]
        found = comfyui_positions(shapes, text)
        image, words = positions(sides, text)
        assert found.image.tolist() == [list(place) for place in image]
        assert found.text.tolist() == [list(place) for place in words]
        if case % 10:
            continue
        rotation = rope.rotation_at(found, CPU)
        for places, rotations in ((image, rotation.image), (words, rotation.text)):
            columns = [np.array(places)[:, axis, None] * omega[axis] for axis in range(3)]
            angles = np.concatenate(columns, axis=1)
            expected = torch.from_numpy(np.cos(angles) + 1j * np.sin(angles))
            torch.testing.assert_close(rotations.to(torch.complex128), expected, atol=2e-5, rtol=0)


def test_positions_differ_from_those_of_diffusers_where_sides_are_odd_or_a_reference_is_larger() -> None:
    rope = Rope(AXES)
    for shapes, same in (([(1, 8, 6), (1, 4, 4)], True), ([(1, 8, 6), (1, 20, 4)], False), ([(1, 7, 6)], False)):
        usual, compat = rope.rotation(shapes, 9, CPU), rope.rotation_at(comfyui_positions(shapes, 9), CPU)
        equal = torch.equal(usual.image, compat.image) and torch.equal(usual.text, compat.text)
        assert equal is same


def test_pictures_are_averaged_as_torch_does_it() -> None:
    draw = random.Random(3)
    for _ in range(40):
        width, height = draw.randint(1, 90), draw.randint(1, 90)
        across, down = draw.randint(1, 120), draw.randint(1, 120)
        levels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = averaged(Image.fromarray(levels), (across, down))
        tensor = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
        expected = functional.interpolate(tensor, size=(down, across), mode="area")[0].permute(1, 2, 0)
        assert found.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-7, rtol=1e-6)


def test_a_scaled_view_is_cut_out_then_reduced_and_then_averaged(scene: Callable[..., Image.Image]) -> None:
    picture = scene(200, 150)
    view = View(90, 61, "area", box=(11.0, 0.0, 189.0, 150.0), scaled=(120, 80))
    between = picture.crop((11, 0, 189, 150)).resize((120, 80), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(colours_of(view_of(picture, view)), averaged(between, (90, 61)))
    kept = view_of(picture, View(120, 80, box=view.box, scaled=(120, 80)))
    assert kept.tobytes() == between.tobytes()


def test_patches_for_the_vision_tower_are_those_of_comfyui(engine: Engine) -> None:
    colours = torch.rand(150, 97, 3, generator=torch.Generator().manual_seed(4))
    found, grid = comfyui_patches(colours)
    high, wide = round(150 / 28) * 28, round(97 / 28) * 28
    assert grid == (high // 14, wide // 14) and found.shape == (grid[0] * grid[1], 1176)
    frame = functional.interpolate(colours.permute(2, 0, 1)[None], size=(high, wide), mode="bilinear")[0]
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    number = 0
    for row in range(high // 28):
        for column in range(wide // 28):
            for y in range(2):
                for x in range(2):
                    top, left = row * 28 + y * 14, column * 28 + x * 14
                    patch = frame[:, top : top + 14, left : left + 14]
                    normal = torch.stack([(patch[c] - mean[c]) / deviation[c] for c in range(3)])
                    expected = torch.stack([normal, normal], dim=1).flatten()
                    torch.testing.assert_close(found[number], expected)
                    number += 1
    features = engine.models.text_encoder.vision_features_as_comfyui(colours)
    assert features.features.shape[0] == features.grid.tokens == (high // 28) * (wide // 28)


def test_a_side_with_half_a_token_is_padded_circularly() -> None:
    for rows, columns in ((4, 6), (5, 6), (4, 7), (5, 7)):
        latents = torch.randn(1, 16, rows, columns)
        expected = functional.pad(latents, (0, columns % 2, 0, rows % 2), mode="circular")
        assert torch.equal(whole_tokens(latents), expected)


def test_noise_is_one_draw_on_the_cpu_for_every_seed() -> None:
    for seed in (0, 7, 2**32 - 1, 2**32 + 7, 2**63 - 1):
        expected = torch.randn([1, 16, 1, 6, 9], dtype=torch.float32, generator=torch.manual_seed(seed), device="cpu")
        assert torch.equal(noise_as_comfyui(seed, 16, 6, 9), expected[:, :, 0])
    assert torch.equal(noise_as_comfyui(7, 16, 6, 9), initial_noise(7, 16, 6, 9))
    assert torch.equal(noise_as_comfyui(2**32 + 7, 16, 6, 9), noise_as_comfyui(7, 16, 6, 9))


def by_cells(x: Tokens, sigma: float, velocities: list[Tokens], scale: float, compat: Compat) -> Tokens:
    """cfg_function, CFGNorm and to_d in double precision, on latents [1, C, rows, columns]."""
    cond = x - sigma * velocities[0]
    if len(velocities) == 1:
        result = cond
        uncond = torch.zeros_like(x)
    else:
        uncond = x - sigma * velocities[1]
        result = uncond + (cond - uncond) * scale

    def norm(latents: Tokens) -> Tokens:
        return latents.square().sum(dim=1, keepdim=True).sqrt()

    if compat.cfg_norm == "pre":
        a, b = x - cond, x - uncond
        comb = b + scale * (a - b)
        rescaled = comb * norm(a) / norm(comb)
        result = x - (compat.cfg_norm_strength * rescaled + (1 - compat.cfg_norm_strength) * comb)
    elif compat.cfg_norm == "post":
        result = result * (norm(cond) / (norm(result) + 1e-8)).clamp(0, 1) * compat.cfg_norm_strength
    return (x - result) / sigma


def test_guidance_is_that_of_comfyui_over_200_cases() -> None:
    draw = random.Random(5)
    generator = torch.Generator().manual_seed(5)
    for _ in range(200):
        rows, columns = 2 * draw.randint(1, 4), 2 * draw.randint(1, 4)
        guided = draw.random() < 0.8
        scale = draw.uniform(1.01, 12) if guided else 1.0
        compat = Compat("comfyui", 3.1, draw.choice(["post", "pre", "none"]), draw.choice([1.0, draw.uniform(0.1, 2)]))
        sigma = torch.tensor(draw.uniform(0.05, 1.0), dtype=torch.float32)
        x, *velocities = (torch.randn(1, 16, rows, columns, generator=generator) for _ in range(3 if guided else 2))
        found = guided_as_comfyui(pack(x), sigma, [pack(velocity) for velocity in velocities], scale, compat)
        doubled = [velocity.double() for velocity in velocities]
        expected = by_cells(x.double(), float(sigma), doubled, scale, compat)
        torch.testing.assert_close(unpack(found, rows, columns).double(), expected, atol=2e-4, rtol=2e-4)


Scene = Callable[..., Image.Image]
MakeSpec = Callable[..., EditSpec]
Finish = Callable[[Edit], list[Advance]]


def compat_spec(spec: MakeSpec, **changes: Any) -> EditSpec:
    fields = {"compat": Compat(), "sized": "kontext", "width": 112, "height": 144, "steps": 3, "align": False}
    return spec(**fields | changes)


def test_what_goes_into_the_model_is_what_comfyui_would_give_it(
    engine: Engine, scene: Scene, spec: MakeSpec, scope: str
) -> None:
    first, second = scene(90, 131), scene(300, 200)
    wanted = compat_spec(spec, images=("a", "b"), true_cfg_scale=4.0, negative_prompt="")
    edit = engine.begin(wanted, {"a": first, "b": second}, scope)
    with forwards_of(engine) as seen:
        while not seen:
            edit.advance()
    forward = seen[0]
    assert len(seen) == 2
    # FluxKontextImageScale: at the aspect of 112 x 144 as much is lost above as below.
    off = round((131 - 131 * ((90 / 131) / (112 / 144))) / 2)
    scaled = first.crop((0, off, 90, 131 - off))
    scaled = scaled.resize((112, 144), Image.Resampling.LANCZOS)
    parts, shapes = [], [(1, 9, 7)]
    for picture in (scaled, second):
        samples = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        by = math.sqrt(engine.context.profile.geometry.vae_pixels / (picture.width * picture.height))
        width, height = (round(side * by / 8.0) * 8 for side in picture.size)
        resized = functional.interpolate(samples, size=(height, width), mode="area")
        with torch.inference_mode():
            latents = engine.models.vae.encode_pixels(resized * 2 - 1)
        high, wide = latents.shape[-2:]
        parts.append(pack(functional.pad(latents, (0, wide % 2, 0, high % 2), mode="circular")))
        shapes.append((1, (high + 1) // 2, (wide + 1) // 2))
    torch.testing.assert_close(forward.references, torch.cat(parts, dim=1), atol=2e-5, rtol=1e-4)
    noise = torch.randn([1, 16, 1, 18, 14], generator=torch.manual_seed(7))[:, :, 0]
    assert torch.equal(unpack(forward.latents, 18, 14), noise)
    text = max(each.embeddings.shape[1] for each in seen)
    expected = Rope(engine.models.transformer._rope.axes_dim).rotation_at(comfyui_positions(shapes, text), CPU)
    assert torch.equal(forward.rotation.image, expected.image) and torch.equal(forward.rotation.text, expected.text)


def test_a_step_goes_along_its_sigmas_by_its_guidance_and_others_share_it_unchanged(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    wanted = compat_spec(spec, true_cfg_scale=3.0, negative_prompt="", compat=Compat(shift=2.0, cfg_norm="pre"))
    transformer = engine.models.transformer
    velocities: list[list[torch.Tensor]] = []
    with forwards_of(engine) as seen:
        noting = transformer.velocities

        def kept(forwards: Any) -> list[torch.Tensor]:
            found = noting(forwards)
            velocities.append([each.clone() for each in found])
            return found

        transformer.velocities = kept  # type: ignore[method-assign]
        result = finish(engine.begin(wanted, {"a": scene(90, 131)}, scope))[-1].image
    assert result is not None and result.size == (112, 144)
    sigmas = simple_sigmas(2.0, 3).double().tolist()
    x = unpack(seen[0].latents, 18, 14).double()
    for step in range(2):
        two = [unpack(each, 18, 14).double() for each in velocities[step]]
        x = x + by_cells(x, sigmas[step], two, 3.0, wanted.compat or Compat()) * (sigmas[step + 1] - sigmas[step])
        torch.testing.assert_close(unpack(seen[2 * step + 2].latents, 18, 14).double(), x, atol=1e-4, rtol=1e-4)


def test_a_pass_over_a_canvas_is_a_ksampler_with_denoise(
    engine: Engine, scene: Scene, spec: MakeSpec, scope: str
) -> None:
    canvas = scene(112, 144)
    whole = PassSpec(0.4, 0, 0, 112, 144, 0, 0, 3, 1 << 18, all_steps=True)
    wanted = compat_spec(spec, canvas="c", passes=(whole,), sized="default", crop_width=112, crop_height=144)
    edit = engine.begin(wanted, {"a": scene(90, 131), "c": canvas}, scope)
    with forwards_of(engine) as seen:
        while len(seen) < 3:
            edit.advance()
    sigma = simple_sigmas(3.1, 3, 0.4)[0]
    with torch.inference_mode():
        start = engine.models.vae.encode(canvas, (112, 144))
    noise = torch.randn([1, 16, 1, 18, 14], generator=torch.manual_seed(7))[:, :, 0]
    torch.testing.assert_close(unpack(seen[0].latents, 18, 14), sigma * noise + (1 - sigma) * start)


@pytest.mark.parametrize("masked", [False, True])
def test_the_same_edit_twice_is_the_same_picture_and_differs_from_the_usual_one(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str, masked: bool
) -> None:
    pictures = {"a": scene(90, 131), "m": Image.new("L", (90, 131), 255)}
    pictures["m"].paste(0, (0, 0, 45, 131))
    mask = {"mask": "m"} if masked else {}
    results = [
        finish(engine.begin(compat_spec(spec, **mask, **changes), pictures, each))[-1].image
        for each, changes in ((scope, {}), (scope, {}), (scope + "b", {"compat": None, "sized": "default"}))
    ]
    assert all(result is not None for result in results)
    data = [result.tobytes() for result in results if result is not None]
    assert data[0] == data[1] != data[2]

"""Results lie over their pictures: an edit that changes nothing neither moves nor zooms, whatever the size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from qied_client.protocol.request import EditRequest
from torch.nn import functional

from qied.edit import EditSpec
from qied.engine.edits.denoise import pack, unpack
from qied.engine.edits.edit import Edit
from qied.engine.edits.scene_cache import SceneCache
from qied.engine.engine import Engine
from qied.engine.transformer.transformer import Forward
from qied.pictures.drift import drift_of
from qied.pictures.finishing import finished
from qied.pictures.reduced import ReducedPicture, view_of
from qied.planning.edits.views import original_view
from qied.planning.plan import Plan, Sessions
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.requests.request_defaults import resolve
from qied.planning.requests.serving import Serving

AREA = 256 * 256
"""The built-in model's own. Sides are rounded more coarsely than those of a megapixel."""
COMMON = [(1000, 750), (600, 400), (480, 270), (270, 337), (295, 639), (378, 504), (250, 167), (160, 120)]


def sizes() -> list[tuple[int, int]]:
    """Those of cameras, screens and posts, a quarter as long, and others of all aspects up to 1 : 4."""
    random = np.random.default_rng(7)
    odd = [(int(random.integers(90, 700)), float(random.uniform(0.25, 4))) for _ in range(44)]
    return [*COMMON, *((width, max(64, round(width / aspect))) for width, aspect in odd)]


OWN = [(256, 256), (255, 257), (97, 160), (321, 199), (100, 100), (470, 280), (75, 115), (263, 413), (640, 260)]
"""Sizes that are kept, of pictures that the model sees whole, and of larger ones."""


def photo(width: int, height: int) -> Image.Image:
    """Flat shapes everywhere, as the built-in VAE knows them, as large as it sees them."""
    random = np.random.default_rng(width * 7919 + height)
    unit = (width * height / AREA) ** 0.5
    picture = Image.new("RGB", (width, height), (235, 215, 180))
    draw = ImageDraw.Draw(picture)
    for _ in range(AREA // 700):
        left, top = int(random.integers(-20 * unit, width)), int(random.integers(-20 * unit, height))
        box = (left, top, left + int(random.integers(14, 44) * unit), top + int(random.integers(14, 44) * unit))
        colour = tuple(int(level) for level in random.integers(20, 235, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=colour)
    return picture


class ExactCodec:
    """Stands for a VAE that loses nothing: a cell has its 8 x 8 pixels as channels."""

    cell, channels = 8, 192

    def encode(self, picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(picture.resize(size))).permute(2, 0, 1).unsqueeze(0).float()
        return functional.pixel_unshuffle(pixels, self.cell)

    def decode(self, latents: torch.Tensor) -> Image.Image:
        pixels = functional.pixel_shuffle(latents, self.cell)[0].clamp(0, 255).round().to(torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@dataclass
class Identity:
    """An engine whose denoiser gives the last reference back, through everything else that an edit is made of."""

    engine: Engine
    serving: Serving
    exact: bool = True

    def edit(self, picture: Image.Image, **wanted: object) -> tuple[Image.Image, EditSpec, Image.Image]:
        """The result before it is aligned, its spec, and the picture as it should look at the result's size."""
        fields = {"steps": 1, "true_cfg_scale": 1.0, "previews": False, **wanted}
        request = EditRequest(("0" * 64,), "nothing", 3, **fields)  # type: ignore[arg-type]
        spec = resolve(request, [picture.size], self.serving).spec
        context = self.engine.context
        if self.exact:
            vae: Any = ExactCodec()
            context = replace(context, models=replace(context.models, vae=vae))
        views = context.sight.views(spec, spec.images[0], picture.size)
        reduced = ReducedPicture(picture.size, {view: view_of(picture, view) for view in views})
        edit = Edit(context, spec, {spec.images[0]: reduced}, SceneCache(0))
        while (image := edit.advance().image) is None:
            pass
        view = original_view(spec, picture.size)
        assert view is not None
        return image, spec, view_of(picture, view)


def give_back(shapes: list[tuple[int, int]], forward: Forward) -> torch.Tensor:
    """The velocity that leads in one step from the noise to the reference, brought to the target's grid."""
    target, reference = shapes
    cells = unpack(forward.references.float(), *reference)
    if reference != target:
        pixels = functional.pixel_shuffle(cells, ExactCodec.cell)
        size = [ExactCodec.cell * side for side in target]
        scaled = functional.interpolate(pixels, size, mode="bicubic", antialias=True)
        cells = functional.pixel_unshuffle(scaled, ExactCodec.cell)
    return forward.latents - pack(cells)


@pytest.fixture(scope="module")
def identity(engine: Engine, profile: ModelProfile) -> Iterator[Identity]:
    plan = Plan(
        "builtin", "x", "x", "cpu", None, (), 1, 1, 1, 0, 4 * AREA, AREA, Sessions(1, 1), engine.execution, (),
    )  # fmt: skip
    transformer, encoder = engine.models.transformer, type(engine.models.text_encoder)
    rotation, shapes = transformer.rotation, []

    def seen(grids: list[tuple[int, int, int]], longest: int, *, as_comfyui: bool) -> object:
        shapes[:] = [(2 * rows, 2 * columns) for _, rows, columns in grids]
        return rotation(grids, longest, as_comfyui=as_comfyui)

    patch = pytest.MonkeyPatch()
    patch.setattr(transformer, "velocities", lambda forwards: [give_back(shapes, each) for each in forwards])
    patch.setattr(transformer, "rotation", seen)
    patch.setattr(encoder, "vision_features", lambda _, picture, size: _Nothing())
    hidden = profile.architecture.joint_dim
    patch.setattr(encoder, "prompt_embeddings", lambda _, prompt, features: torch.zeros(1, 4, hidden))
    yield Identity(engine, Serving(profile, (plan,)))
    patch.undo()


class _Nothing:
    """What the vision tower saw, which the denoiser does not look at."""

    nbytes = 0
    features = torch.zeros(0)


@pytest.mark.parametrize(("size", "pictures"), [("default", sizes()), ("same", OWN)], ids=["default", "same"])
def test_an_edit_that_changes_nothing_does_not_move_the_picture(
    identity: Identity, size: str, pictures: list[tuple[int, int]]
) -> None:
    assert size == "same" or len(pictures) > 50
    for width, height in pictures:
        image, spec, original = identity.edit(photo(width, height), size=size)
        result, told = finished(image, replace(spec, align=False), original.convert("L"))
        assert result.size == original.size == ((width, height) if size == "same" else spec.size)
        stretch = (result.width / width) / (result.height / height) - 1
        # A side is whole pixels, so the shape is right to half a pixel of the shorter one.
        assert abs(stretch) < max(0.001, 0.51 / min(result.size)), (width, height, result.size)
        assert told is not None, (width, height)
        assert max(abs(told.x), abs(told.y)) < 0.25 and abs(told.zoom - 1) < 0.001, (width, height, told)


@pytest.mark.parametrize(("width", "height"), [(1000, 750), (517, 290)])
def test_five_turns_do_not_zoom(identity: Identity, width: int, height: int) -> None:
    first = photo(width, height)
    picture, sizes_seen = first, []
    for _ in range(5):
        image, spec, original = identity.edit(picture)
        picture, _told = finished(image, spec, original.convert("L"))
        sizes_seen.append(picture.size)
    assert len(set(sizes_seen)) == 1, "the size of a result is that of the result's result"
    drift = drift_of(first.resize(picture.size, Image.Resampling.LANCZOS), picture)
    assert drift is not None
    assert max(abs(drift.x), abs(drift.y)) < 0.25 and abs(drift.zoom - 1) < 0.001


def test_the_real_codec_does_not_move_the_picture_either(identity: Identity) -> None:
    image, spec, original = replace(identity, exact=False).edit(photo(1000, 750))
    _, told = finished(image, spec, original.convert("L"))
    assert told is not None and not told.undone
    assert max(abs(told.x), abs(told.y)) < 0.25 and abs(told.zoom - 1) < 0.001

"""Passes over regions through the engine: where they begin, what they see, and what they leave as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.denoise import initial_noise, unpack
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine
from qied.engine.sigmas import sigma_schedule
from qied.engine.transformer.transformer import Forward
from qied.pictures.reduced import ReducedPicture, view_of

Scene = Callable[..., Image.Image]
MakeSpec = Callable[..., EditSpec]
Finish = Callable[[Edit], list[Advance]]
BOX = (48, 32, 112, 96)
SIDE = 128


def redrawn(**changes: Any) -> PassSpec:
    left, top, right, bottom = BOX
    fields: dict[str, Any] = {
        "strength": 0.5, "left": left, "top": top, "width": right - left, "height": bottom - top, "padding": 16,
        "feather": 4, "steps": 4, "max_pixels": 1 << 18, "scale": 1.0,
    }  # fmt: skip
    return PassSpec(**fields | changes)


@pytest.fixture
def on_canvas(spec: MakeSpec) -> MakeSpec:
    def make(**changes: Any) -> EditSpec:
        fields = {"width": SIDE, "height": SIDE, "crop_width": SIDE, "crop_height": SIDE, "canvas": "c"}
        return spec(**fields | {"passes": (redrawn(),)} | changes)

    return make


def picture_of(units: list[Advance]) -> Image.Image:
    image = units[-1].image
    assert image is not None and [unit for unit in units if unit.image is not None] == units[-1:]
    return image


@contextmanager
def forwards_of(engine: Engine) -> Iterator[list[Forward]]:
    transformer, seen = engine.models.transformer, []
    own = transformer.velocities
    transformer.velocities = lambda forwards: seen.extend(forwards) or own(forwards)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del transformer.velocities


def test_a_pass_changes_its_region_alone_and_says_what_it_does(
    engine: Engine, scene: Scene, on_canvas: MakeSpec, finish: Finish, scope: str
) -> None:
    canvas = scene(SIDE, SIDE)
    units = finish(engine.begin(on_canvas(preview_every=1), {"a": canvas, "c": canvas}, scope))
    before, after = np.asarray(canvas).astype(int), np.asarray(picture_of(units)).astype(int)
    left, top, right, bottom = BOX
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top:bottom, left:right] = True
    assert (after[~inside] == before[~inside]).all()
    assert (after[inside] != before[inside]).mean() > 0.2
    steps = [(unit.phase, unit.step, unit.steps) for unit in units if unit.phase in ("denoise", "redraw")]
    assert steps == [("redraw", 1, 2), ("redraw", 2, 2)]
    previews = [unit.preview for unit in units if unit.preview is not None]
    assert [preview.size for preview in previews] == [(SIDE, SIDE)]


def test_it_begins_from_the_noised_picture_and_sees_its_reference_at_the_same_place(
    engine: Engine, scene: Scene, on_canvas: MakeSpec, scope: str
) -> None:
    canvas, models = scene(SIDE, SIDE), engine.models
    photo = scene(2 * SIDE, 2 * SIDE)
    edit = engine.begin(on_canvas(), {"a": photo, "c": canvas}, scope)
    with forwards_of(engine) as seen:
        while not seen:
            edit.advance()
    crop = (32, 16, 128, 112)  # the box with its padding, whose sides are multiples of 16
    with torch.inference_mode():
        start = models.vae.encode(canvas.crop(crop), (96, 96))
        reference = models.vae.encode(photo.resize((96, 96), Image.Resampling.LANCZOS, (64, 32, 256, 224)), (96, 96))
    sigma = sigma_schedule(models.schedule, 4, 36)[2]
    latents = unpack(seen[0].latents, 12, 12)
    torch.testing.assert_close(latents, (1 - sigma) * start + sigma * initial_noise(7, 16, 12, 12))
    torch.testing.assert_close(unpack(seen[0].references, 12, 12), reference)


def test_a_pass_of_the_same_job_is_the_pass_over_its_result(
    engine: Engine, scene: Scene, spec: MakeSpec, on_canvas: MakeSpec, finish: Finish, scope: str
) -> None:
    picture = scene(SIDE, SIDE)
    first = {"width": SIDE, "height": SIDE, "steps": 2}
    once = picture_of(finish(engine.begin(spec(**first), {"a": picture}, scope)))
    later = picture_of(finish(engine.begin(on_canvas(), {"a": picture, "c": once}, scope)))
    both = finish(engine.begin(spec(**first, passes=(redrawn(),)), {"a": picture}, scope))
    assert picture_of(both).tobytes() == later.tobytes()
    assert Counter(unit.phase for unit in both)["decode"] == 2


def test_views_are_all_that_passes_need_of_pictures(
    engine: Engine, scene: Scene, on_canvas: MakeSpec, finish: Finish, scope: str
) -> None:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (50, 40, 90, 80))
    pictures = {"a": scene(160, 160), "b": scene(80, 100), "c": scene(SIDE, SIDE)}
    passes = (redrawn(mask="m", left=50, top=40, width=40, height=40, scale=1.5, steps=2), redrawn(strength=0.25))
    wanted = on_canvas(images=("b", "a"), passes=passes)
    reduced = {
        name: ReducedPicture(
            picture.size, {view: view_of(picture, view) for view in engine.views(wanted, name, picture.size)}
        )
        for name, picture in pictures.items()
    }
    image = picture_of(finish(engine.begin(wanted, {**reduced, "m": mask}, None)))
    whole = picture_of(finish(engine.begin(wanted, {**pictures, "m": mask}, None)))
    assert image.tobytes() == whole.tobytes()


def test_a_refiner_goes_over_all_of_a_picture_of_any_size(
    engine: Engine, scene: Scene, on_canvas: MakeSpec, finish: Finish, scope: str
) -> None:
    canvas = scene(121, 99)
    whole = redrawn(left=0, top=0, width=121, height=99, padding=0, feather=0, scale=0.0, strength=0.25)
    wanted = on_canvas(width=128, height=112, crop_width=121, crop_height=99, passes=(whole,))
    with forwards_of(engine) as seen:
        image = picture_of(finish(engine.begin(wanted, {"a": canvas, "c": canvas}, scope)))
    assert image.size == (121, 99)
    assert [each.latents.shape[1] for each in seen] == [8 * 7]
    assert np.abs(np.asarray(image).astype(int) - np.asarray(canvas).astype(int)).mean() < 6

import gc
import random
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from qied_client.errors import InvalidRequest, JobFailed, OutOfMemory

from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.denoise import initial_noise, unpack
from qied.engine.edits.edit import Edit
from qied.engine.edits.mask import FEATHER
from qied.engine.engine import Engine
from qied.engine.sigmas import sigma_schedule
from qied.engine.transformer.transformer import Forward
from qied.link.engine_port import DeviceLost
from qied.pictures.reduced import ReducedPicture, view_of
from qied.planning.edits.view import View
from qied.planning.edits.views import mask_view

Scene = Callable[..., Image.Image]
MakeSpec = Callable[..., EditSpec]
Finish = Callable[[Edit], list[Advance]]
BLUE = (40, 80, 220)


def result(units: list[Advance]) -> Image.Image:
    image = units[-1].image
    assert image is not None
    return image


@contextmanager
def calls(engine: Engine) -> Iterator[Counter[str]]:
    """Count the forwards of every model while inside."""
    models = engine.models
    modules = {
        "vision": models.text_encoder.model.visual,
        "language": models.text_encoder.model.language_model,
        "vae encoder": models.vae.model.encoder,
        "vae decoder": models.vae.model.decoder,
    }
    counted: Counter[str] = Counter()

    def hook(name: str) -> Callable[..., None]:
        return lambda *_: counted.update([name])

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        with seen_by_transformer(engine, lambda forward: counted.update(["transformer"])):
            yield counted
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def transformer_replaced(engine: Engine, velocities: Callable[..., list[torch.Tensor]]) -> Iterator[None]:
    """Give another answer than the transformer's; ``velocities`` gets its own method and the forwards of a sweep."""
    transformer = engine.models.transformer
    own = transformer.velocities
    transformer.velocities = lambda forwards: velocities(own, forwards)
    try:
        yield
    finally:
        del transformer.velocities


@contextmanager
def seen_by_transformer(engine: Engine, see: Callable[[Forward], object]) -> Iterator[None]:
    """Call ``see`` with every forward before it runs."""

    def velocities(own: Callable[..., list[torch.Tensor]], forwards: list[Forward]) -> list[torch.Tensor]:
        for forward in forwards:
            see(forward)
        return own(forwards)

    with transformer_replaced(engine, velocities):
        yield


def half_mask(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).rectangle((0, 0, width // 2 - 1, height), fill=255)
    return mask


def test_an_edit_is_visible_and_leaves_the_rest_alone(
    load_engine: Callable[..., Engine], scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    picture = scene()
    edit = load_engine(dtype="bf16").begin(spec(steps=8), {"a": picture}, scope)
    pixels, before = np.asarray(result(finish(edit))).astype(float), np.asarray(picture).astype(float)
    distance = np.hypot(*(np.mgrid[:256, :256] - 127.5))
    assert np.abs(pixels[distance < 30].mean(axis=0) - BLUE).max() < 25
    error = (pixels - before)[distance > 42]
    assert 10 * np.log10(255**2 / (error**2).mean()) > 35


def test_units_come_in_order_and_only_the_last_holds_the_result(
    load_engine: Callable[..., Engine], scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    engine = load_engine(dtype="fp32")
    wanted = spec(images=("a", "b"), true_cfg_scale=2.0, negative_prompt=" ")
    units = finish(engine.begin(wanted, {"a": scene(), "b": scene(200, 300)}, scope))
    encoding = [("encode_prompt", step, 4) for step in (1, 2, 3, 4)]
    images = [("encode_image", 1, 2), ("encode_image", 2, 2)]
    steps = [("denoise", step, 3) for step in (1, 2, 3)]
    rest = [("prepare_steps", 6, 6), *steps, ("decode", 1, 1)]
    assert [(unit.phase, unit.step, unit.steps) for unit in units] == [*encoding, *images, *rest]
    assert [unit.image is not None for unit in units] == [False] * 10 + [True]
    again = finish(engine.begin(wanted, {"a": scene(), "b": scene(200, 300)}, scope))
    assert [unit.phase for unit in again] == ["denoise"] * 3 + ["decode"], "what is kept is not computed again"
    assert all(unit.milliseconds > 0 for unit in units)
    assert result(units).size == (256, 256) and result(units).mode == "RGB"


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [1, 2, 3]), (2, [2]), (3, [3]), (4, [])])
def test_previews_come_every_so_many_steps_and_never_at_the_last(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str, every: int, expected: list[int]
) -> None:
    wanted = spec(steps=4, preview_every=every, width=64, height=96)
    units = finish(engine.begin(wanted, {"a": scene(128, 128)}, scope))
    assert [unit.step for unit in units if unit.preview is not None] == expected
    assert all(unit.preview.size == (8, 12) for unit in units if unit.preview is not None)


def test_previews_do_not_change_the_result(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    results = [result(finish(engine.begin(spec(preview_every=n), {"a": scene()}, scope))) for n in (0, 1)]
    assert results[0].tobytes() == results[1].tobytes()


def test_an_edit_that_is_over_cannot_be_advanced(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    edit = engine.begin(spec(steps=1, width=64, height=64), {"a": scene()}, scope)
    finish(edit)
    with pytest.raises(AssertionError, match="over"):
        edit.advance()


def test_one_step_gives_a_finite_picture(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    image = result(finish(engine.begin(spec(steps=1), {"a": scene()}, scope)))
    assert np.asarray(image).std() > 20


@pytest.mark.parametrize("shuffle", [1, 2, 3])
def test_edits_advanced_in_turns_give_the_bytes_of_each_alone(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, shuffle: int
) -> None:
    pictures = {"a": scene(), "b": scene(300, 180), "m": half_mask(64, 64)}
    specs = [
        spec(width=128, height=128),
        spec(images=("b", "a"), width=192, height=112, steps=2, true_cfg_scale=3.0, negative_prompt="", seed=8),
        spec(images=("b",), width=160, height=192, steps=4, mask="m", prompt="remove the green square"),
    ]
    alone = [result(finish(engine.begin(each, pictures, None))).tobytes() for each in specs]
    edits = dict(enumerate(engine.begin(each, pictures, f"shared {shuffle}") for each in specs))
    together: dict[int, bytes] = {}
    order = random.Random(shuffle)
    while edits:
        index = order.choice(list(edits))
        if (image := edits[index].advance().image) is not None:
            together[index] = image.tobytes()
            del edits[index]
    assert [together[index] for index in range(3)] == alone


def test_another_seed_on_the_same_picture_encodes_nothing_again(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    guided = {"true_cfg_scale": 2.0, "negative_prompt": " ", "width": 128, "height": 128}
    pictures = {"a": scene()}
    finish(engine.begin(spec(**guided), pictures, scope))
    with calls(engine) as counted:
        units = finish(engine.begin(spec(seed=99, **guided), pictures, scope))
    assert counted == {"transformer": 6, "vae decoder": 1}
    assert [unit.phase for unit in units] == ["denoise"] * 3 + ["decode"]
    cache = engine.caches.of(scope)
    assert (cache.hits["prompt"], cache.hits["reference"], cache.hits["vision"]) == (2, 1, 0)
    assert (cache.misses["prompt"], cache.misses["reference"], cache.misses["vision"]) == (2, 1, 1)


def test_a_new_prompt_on_the_same_picture_runs_the_language_model_only(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    pictures = {"a": scene()}
    finish(engine.begin(spec(width=128, height=128), pictures, scope))
    with calls(engine) as counted:
        finish(engine.begin(spec(prompt="remove the green square", width=128, height=128), pictures, scope))
    assert counted == {"language": 1, "transformer": 3, "vae decoder": 1}


def test_a_warm_cache_gives_the_bytes_of_an_empty_one(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    pictures = {"a": scene(), "b": scene(180, 300)}
    wanted = spec(images=("a", "b"), width=128, height=128)
    finish(engine.begin(spec(images=("b",), width=128, height=128), pictures, scope))
    finish(engine.begin(spec(images=("a", "b"), prompt="remove it", width=128, height=128), pictures, scope))
    warm = result(finish(engine.begin(wanted, pictures, scope)))
    cache = engine.caches.of(scope)
    assert cache.hits["vision"] and cache.hits["reference"]
    assert warm.tobytes() == result(finish(engine.begin(wanted, pictures, None))).tobytes()


def test_the_order_of_pictures_matters_to_the_prompt(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    pictures = {"a": scene(), "b": scene(180, 300, (10, 20, 60))}
    size = {"width": 128, "height": 128}
    first, second = (
        result(finish(engine.begin(spec(images=order, **size), pictures, scope))) for order in (("a", "b"), ("b", "a"))
    )
    assert first.tobytes() != second.tobytes()
    cache = engine.caches.of(scope)
    assert cache.misses["prompt"] == 2 and cache.misses["reference"] == 2


@pytest.mark.parametrize("size", [(256, 256), (192, 240)])
def test_a_mask_keeps_pixels_outside_exactly_and_lets_the_inside_change(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str, size: tuple[int, int]
) -> None:
    width, height = size
    picture, mask = scene(*size), Image.new("L", size)
    box = (width // 2 - 48, height // 2 - 48, width // 2 + 48, height // 2 + 48)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    wanted = spec(mask="m", width=width, height=height, steps=8)
    image = np.asarray(result(finish(engine.begin(wanted, {"a": picture, "m": mask}, scope)))).astype(int)
    before = np.asarray(picture).astype(int)
    outside = np.ones((height, width), bool)
    rim = 2 * FEATHER
    outside[box[1] - rim : box[3] + rim + 1, box[0] - rim : box[2] + rim + 1] = False
    assert (image[outside] == before[outside]).all()
    middle = image[height // 2 - 20 : height // 2 + 20, width // 2 - 20 : width // 2 + 20]
    assert np.abs(middle.mean(axis=(0, 1)) - BLUE).max() < 40


def test_at_every_step_the_model_sees_the_noised_source_outside_the_mask(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    models, seen = engine.models, []
    pictures = {"a": scene(), "m": half_mask(128, 128)}
    with seen_by_transformer(engine, lambda forward: seen.append(unpack(forward.latents, 16, 16))):
        finish(engine.begin(spec(mask="m", width=128, height=128), pictures, scope))
    with torch.inference_mode():
        source = models.vae.encode(pictures["a"], (128, 128))
    noise = initial_noise(7, 16, 16, 16)
    for latents, sigma in zip(seen, sigma_schedule(models.schedule, 3, 64), strict=False):
        expected = (1 - sigma) * source + sigma * noise
        torch.testing.assert_close(latents[..., 8:], expected[..., 8:])
    assert not torch.allclose(seen[-1][..., :8], expected[..., :8], atol=0.1)


def test_a_black_mask_gives_the_source(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    pictures = {"a": scene(300, 300), "m": Image.new("L", (20, 20))}
    image = result(finish(engine.begin(spec(mask="m", width=128, height=128), pictures, scope)))
    assert image.tobytes() == pictures["a"].resize((128, 128), Image.Resampling.LANCZOS).tobytes()


def test_a_white_mask_gives_the_unmasked_result(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    pictures = {"a": scene(), "m": Image.new("L", (20, 20), 255)}
    images = [result(finish(engine.begin(spec(mask=mask), pictures, scope))) for mask in (None, "m")]
    assert images[0].tobytes() == images[1].tobytes()


@pytest.mark.parametrize("mask", [None, "m", "a"])
def test_views_of_pictures_are_all_that_an_edit_needs_of_them(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, mask: str | None
) -> None:
    pictures = {"a": scene(300, 200), "b": scene(130, 170)}
    masks = {"m": half_mask(150, 150), "a": pictures["a"].convert("L")}
    wanted = spec(images=("a", "b"), mask=mask, width=128, height=96)
    reduced = {
        name: ReducedPicture(picture.size, views_made(picture, engine.views(wanted, name, picture.size)))
        for name, picture in pictures.items()
    }
    if mask is not None:
        of_mask = ReducedPicture(masks[mask].size, views_made(masks[mask], (mask_view(wanted),)))
        both = reduced.get(mask)
        reduced[mask] = of_mask if both is None else both.with_views(of_mask.views)
    image = result(finish(engine.begin(wanted, reduced, None)))
    if mask != "a":  # whole, one picture cannot be both
        whole = result(finish(engine.begin(wanted, {**pictures, **masks, "a": pictures["a"]}, None)))
        assert image.tobytes() == whole.tobytes()


def views_made(picture: Image.Image, views: tuple[View, ...]) -> dict[View, Image.Image]:
    return {view: view_of(picture, view) for view in views}


@contextmanager
def embeddings_seen(engine: Engine) -> Iterator[list[weakref.ref[torch.Tensor]]]:
    """Weak references to the embeddings of every forward."""
    seen: list[weakref.ref[torch.Tensor]] = []
    with seen_by_transformer(engine, lambda forward: seen.append(weakref.ref(forward.embeddings))):
        yield seen


def advance_to(edit: Edit, phase: str) -> None:
    while edit.advance().phase != phase:
        pass


def test_a_dropped_edit_frees_its_tensors_at_once(engine: Engine, scene: Scene, spec: MakeSpec) -> None:
    edit = engine.begin(spec(), {"a": scene()}, None)
    with embeddings_seen(engine) as seen:
        advance_to(edit, "denoise")
    gc.disable()
    try:
        assert seen[0]() is not None
        del edit
        assert seen[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("mask", "left"), [(None, set()), ("m", {"a", "m"})])
def test_decoded_pictures_are_dropped_once_they_are_encoded_apart_from_what_a_mask_needs(
    engine: Engine, scene: Scene, spec: MakeSpec, mask: str | None, left: set[str]
) -> None:
    pictures = {"a": scene(128, 128), "b": scene(100, 128), "m": half_mask(64, 64)}
    alive = {image: weakref.ref(picture) for image, picture in pictures.items()}
    edit = engine.begin(spec(images=("a", "b"), mask=mask, width=64, height=64), pictures, None)
    pictures.clear()
    advance_to(edit, "denoise")
    gc.collect()
    assert {image for image, picture in alive.items() if picture() is not None} == left


def test_between_steps_no_velocity_stays(engine: Engine, scene: Scene, spec: MakeSpec) -> None:
    edit = engine.begin(spec(preview_every=1), {"a": scene()}, None)
    seen: list[weakref.ref[torch.Tensor]] = []

    def velocities(own: Callable[..., list[torch.Tensor]], forwards: list[Forward]) -> list[torch.Tensor]:
        result = own(forwards)
        seen.extend(weakref.ref(each) for each in result)
        return result

    with transformer_replaced(engine, velocities):
        advance_to(edit, "denoise")
    assert seen and all(each() is None for each in seen)


def test_the_bytes_held_rise_with_the_work_and_end_at_nothing(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish
) -> None:
    edit = engine.begin(spec(mask="m"), {"a": scene(), "m": half_mask(64, 64)}, None)
    assert edit.state_bytes == 0
    advance_to(edit, "encode_image")
    encoded = edit.state_bytes
    advance_to(edit, "denoise")
    latents = 32 * 32 * 16 * 4
    assert 0 < encoded <= edit.state_bytes - 3 * latents
    finish(edit)
    assert edit.state_bytes == 0


def test_out_of_memory_is_a_typed_error_that_holds_no_tensor(engine: Engine, scene: Scene, spec: MakeSpec) -> None:
    edit = engine.begin(spec(), {"a": scene()}, None)

    def exhaust(*_: object) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with embeddings_seen(engine) as seen:
        advance_to(edit, "denoise")
    with transformer_replaced(engine, exhaust), pytest.raises(OutOfMemory, match="CUDA out of memory") as raised:
        edit.advance()
    assert raised.value.__context__ is None
    assert seen[0]() is None and edit.state_bytes == 0


@pytest.mark.parametrize(
    "error",
    [RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), MemoryError("no memory")],
    ids=["library", "host"],
)
def test_memory_that_libraries_lack_is_out_of_memory_as_well(
    engine: Engine, scene: Scene, spec: MakeSpec, error: Exception
) -> None:
    edit = engine.begin(spec(), {"a": scene()}, None)
    advance_to(edit, "denoise")
    with transformer_replaced(engine, raising(error)), pytest.raises(OutOfMemory, match=str(error)):
        edit.advance()


@pytest.mark.parametrize("error", [ZeroDivisionError("defect"), KeyboardInterrupt()], ids=["defect", "interrupt"])
def test_after_any_error_the_edit_is_over_and_holds_nothing(
    engine: Engine, scene: Scene, spec: MakeSpec, error: BaseException
) -> None:
    edit = engine.begin(spec(), {"a": scene()}, None)
    advance_to(edit, "denoise")
    with transformer_replaced(engine, raising(error)), pytest.raises(type(error)):
        edit.advance()
    assert edit.state_bytes == 0
    with pytest.raises(AssertionError, match="over"):
        edit.advance()


@pytest.mark.parametrize("answers", [True, False])
def test_an_error_of_a_card_that_no_longer_answers_is_more_than_that_of_an_edit(
    engine: Engine, scene: Scene, spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    edit = engine.begin(spec(), {"a": scene()}, None)
    advance_to(edit, "denoise")
    asked: list[object] = []
    monkeypatch.setattr("qied.engine.device_errors.is_lost", lambda *which: asked.append(which) or not answers)
    fault = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with transformer_replaced(engine, raising(fault)), pytest.raises(type(fault) if answers else DeviceLost):
        edit.advance()
    assert asked == [(fault, torch.device("cpu"))]


def raising(error: BaseException) -> Callable[..., list[torch.Tensor]]:
    def velocities(*_: object) -> list[torch.Tensor]:
        raise error

    return velocities


def test_an_edit_can_be_begun_again_after_running_out_of_memory(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    test_out_of_memory_is_a_typed_error_that_holds_no_tensor(engine, scene, spec)
    result(finish(engine.begin(spec(), {"a": scene()}, scope)))


def test_a_result_that_is_not_a_number_fails_the_job(
    engine: Engine, scene: Scene, spec: MakeSpec, finish: Finish, scope: str
) -> None:
    with (
        transformer_replaced(
            engine, lambda _, forwards: [torch.full_like(each.latents, torch.nan) for each in forwards]
        ),
        pytest.raises(JobFailed),
    ):
        finish(engine.begin(spec(preview_every=1), {"a": scene()}, scope))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"images": ()}, "images"),
        ({"images": ("a",) * 4}, "images"),
        ({"images": ("long",)}, "images"),
        ({"width": 250}, "width"),
        ({"height": 0}, "height"),
        ({"steps": 0}, "steps"),
        ({"prompt": "blue " * 600}, "prompt"),
        ({"negative_prompt": "blue " * 600}, "negative_prompt"),
    ],
)
def test_what_the_model_cannot_run_is_refused_by_field(
    engine: Engine, scene: Scene, spec: MakeSpec, scope: str, change: dict[str, object], field: str
) -> None:
    pictures = {"a": scene(), "long": Image.new("RGB", (6400, 100))}
    with pytest.raises(InvalidRequest) as raised:
        engine.begin(spec(**change), pictures, scope)
    assert raised.value.details["field"] == field

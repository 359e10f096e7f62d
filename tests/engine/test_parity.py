"""The engine against diffusers' own pipeline: the same checkpoint, request and seed in FP32."""

from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as pipeline_module
from PIL import Image

from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine
from qied.planning.profiles.model_profile import ModelProfile
from tests.engine.pipelines import (
    TOLERANCE,
    Reference,
    by_pipeline,
    largest_difference,
    reference_pipeline,
    some_pictures,
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_pipeline("QwenImageEditPlusPipeline", zero_cond_t=True)


@pytest.fixture
def native_sizes(profile: ModelProfile, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline_module, "CONDITION_IMAGE_SIZE", profile.geometry.vision_pixels)
    monkeypatch.setattr(pipeline_module, "VAE_IMAGE_SIZE", profile.geometry.vae_pixels)
    yield


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    return some_pictures()


GUIDED = {"true_cfg_scale": 4.0, "negative_prompt": " "}


@pytest.mark.usefixtures("native_sizes")
@pytest.mark.parametrize(
    ("images", "width", "height", "guidance"),
    [
        ("a", 256, 256, {}),
        ("b", 288, 192, GUIDED),
        ("ab", 256, 256, GUIDED),
        ("ca", 176, 304, {}),
        ("abc", 256, 256, {}),
        ("cab", 208, 240, GUIDED),
    ],
)
def test_results_equal_the_pipelines(
    engine: Engine,
    reference: Reference,
    pictures: dict[str, Image.Image],
    scope: str,
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
    images: str,
    width: int,
    height: int,
    guidance: dict[str, object],
) -> None:
    wanted = spec(images=tuple(images), width=width, height=height, **guidance)
    image = finish(engine.begin(wanted, pictures, scope))[-1].image
    assert image is not None
    reference.mrope = True
    assert largest_difference(image, by_pipeline(reference, wanted, pictures)) <= TOLERANCE


@pytest.mark.usefixtures("native_sizes")
def test_with_plain_positions_results_equal_the_untouched_pipelines(
    load_engine: Callable[..., Engine],
    reference: Reference,
    pictures: dict[str, Image.Image],
    scope: str,
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
) -> None:
    wanted = spec(images=("b", "a"), width=256, height=160)
    plain = load_engine(dtype="fp32", text_positions="plain")
    image = finish(plain.begin(wanted, pictures, scope))[-1].image
    assert image is not None
    reference.mrope = False
    assert largest_difference(image, by_pipeline(reference, wanted, pictures)) <= TOLERANCE


def test_the_two_kinds_of_positions_give_different_embeddings(
    engine: Engine, load_engine: Callable[..., Engine], pictures: dict[str, Image.Image]
) -> None:
    embeddings = []
    for each in (engine, load_engine(dtype="fp32", text_positions="plain")):
        encoder = each.models.text_encoder
        with torch.inference_mode():
            features = encoder.vision_features(pictures["a"], (112, 112))
            embeddings.append(encoder.prompt_embeddings("make it blue", [features]))
    mrope, plain = embeddings
    assert (mrope - plain).norm() > 0.05 * mrope.norm()

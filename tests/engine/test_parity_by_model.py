"""Each kind of model against its own pipeline in diffusers: the same weights, request and seed in FP32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit_module
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus_module
from PIL import Image
from qied_client.errors import InvalidRequest, ModelUnsupported

from qied.edit import EditSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.text.prompt import template_head
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles, versions
from qied.resources import builtin_model_folder
from tests.engine.pipelines import (
    TOLERANCE,
    Reference,
    by_pipeline,
    largest_difference,
    reference_pipeline,
    some_pictures,
)
from tests.small_models import small_model, small_profile

SMALL = shipped_profiles()["builtin"].geometry
GUIDED = {"true_cfg_scale": 4.0, "negative_prompt": " "}
pipeline_of = cache(reference_pipeline)
LoadModel = Callable[[str], tuple[Engine, ModelProfile]]


@pytest.fixture(scope="module")
def load_model(tmp_path_factory: pytest.TempPathFactory, load_engine: Callable[..., Engine]) -> LoadModel:
    tokens = load_engine(dtype="fp32").models.text_encoder.tokens

    @cache
    def load(version: str) -> tuple[Engine, ModelProfile]:
        folder = small_model(tmp_path_factory.mktemp("model") / version, version)
        dropped = len(tokens._tokenizer(template_head(versions()[version].template))["input_ids"])
        profile = small_profile(version, template_tokens=dropped)
        return Engine.load(folder, profile, EngineOptions(dtype="fp32"), lambda *_: None), profile

    return load


@pytest.fixture
def reference_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelProfile], Reference]:
    """The pipeline of a model, which resizes pictures to the sizes of the built-in one."""
    dimensions = edit_module.calculate_dimensions
    monkeypatch.setattr(edit_module, "calculate_dimensions", lambda _, ratio: dimensions(SMALL.vae_pixels, ratio))
    monkeypatch.setattr(edit_plus_module, "CONDITION_IMAGE_SIZE", SMALL.vision_pixels)
    monkeypatch.setattr(edit_plus_module, "VAE_IMAGE_SIZE", SMALL.vae_pixels)

    def made(profile: ModelProfile) -> Reference:
        reference = pipeline_of(profile.pipeline, zero_cond_t=profile.zero_cond_t)
        reference.pipeline.prompt_template_encode_start_idx = profile.template_tokens
        return reference

    return made


@pytest.mark.parametrize(
    ("version", "images", "width", "height", "guidance"),
    [
        ("2509", "ca", 176, 240, GUIDED),
        ("firered-1.1", "b", 288, 192, {}),
        ("edit", "b", 288, 192, GUIDED),
        ("edit", "c", 176, 304, {}),
        ("qwen-image", "", 256, 256, GUIDED),
        ("2512", "", 304, 176, {}),
    ],
)
def test_each_models_results_equal_those_of_its_own_pipeline(
    load_model: LoadModel,
    reference_of: Callable[[ModelProfile], Reference],
    spec: Callable[..., EditSpec],
    finish: Callable[[Edit], list[Advance]],
    version: str,
    images: str,
    width: int,
    height: int,
    guidance: dict[str, object],
) -> None:
    engine, profile = load_model(version)
    pictures = some_pictures()
    wanted = spec(images=tuple(images), width=width, height=height, steps=2, **guidance)
    image = finish(engine.begin(wanted, pictures, None))[-1].image
    assert image is not None
    assert largest_difference(image, by_pipeline(reference_of(profile), wanted, pictures)) <= TOLERANCE


def test_references_at_timestep_0_are_seen_in_the_result(
    load_model: LoadModel, engine: Engine, spec: Callable[..., EditSpec], finish: Callable[[Edit], list[Advance]]
) -> None:
    """Else the parity above would say nothing of zero_cond_t."""
    made = [finish(each.begin(spec(), some_pictures(), None))[-1].image for each in (engine, load_model("2509")[0])]
    assert all(isinstance(image, Image.Image) for image in made)
    assert largest_difference(*made) > 5 * TOLERANCE  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "images"), [("edit", "ab"), ("edit", ""), ("2512", "a")])
def test_a_model_takes_only_as_many_pictures_as_it_was_trained_with(
    load_model: LoadModel, spec: Callable[..., EditSpec], version: str, images: str
) -> None:
    with pytest.raises(InvalidRequest, match="this model takes (1 picture|no picture)"):
        load_model(version)[0].begin(spec(images=tuple(images)), some_pictures(), None)


def test_a_configuration_of_another_model_is_not_run_as_this_one() -> None:
    with pytest.raises(ModelUnsupported, match="sets zero_cond_t, so it is not the configuration of .*-2509"):
        Engine.load(builtin_model_folder(), small_profile("2509"), EngineOptions(dtype="fp32"), lambda *_: None)

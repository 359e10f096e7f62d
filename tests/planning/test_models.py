"""What each of the models of the same tensors takes and makes, and what is said of requests that it cannot do."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from qied_client.errors import InvalidRequest
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.config import ModelConfig
from qied.planning.edits.loras import LoraFacts, LoraRoom
from qied.planning.edits.workload import largest_workload
from qied.planning.plan import Execution, Plan, Sessions
from qied.planning.profiles.model_names import model_named
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles, versions
from qied.planning.requests.quote import ask
from qied.planning.requests.request_defaults import Resolved, resolve
from qied.planning.requests.serving import Serving
from qied.resources import model_configuration

TEXT_TO_IMAGE = ["qwen-image", "2512"]


def plan() -> Plan:
    run = Execution("cuda", 0, "bf16", None, "bf16", 60, 60, 0, "resident", None, None, False, 0, 1024 * 1024)
    return Plan("m", "card", "profile", "bf16", None, (), 0, 0, 0, 0, 1 << 21, 1024 * 1024, Sessions(8, 8), run, ())


def resolved(version: str, pictures: int, loras: dict[str, LoraFacts] | None = None, **fields: object) -> Resolved:
    choices = tuple(LoraChoice(name) for name in loras or ())
    request = EditRequest(("a" * 64,) * pictures, "a cat", 1, loras=choices, **fields)  # type: ignore[arg-type]
    serving = Serving(versions()[version], (plan(),), loras=loras or {}, lora_room=LoraRoom(100, 100))
    return resolve(request, [(1000, 1000)] * pictures, serving)


def test_the_configuration_names_each_model_by_its_version() -> None:
    allowed = get_args(ModelConfig.model_fields["version"].annotation)
    assert set(allowed) == {"", *versions()}
    assert next(iter(versions())) == "2511" and next(iter(shipped_profiles())) == "qwen-image-edit-2511"


def test_models_with_2509s_configuration_differ_from_2511s_in_zero_cond_t_alone() -> None:
    folders = {profile.configuration or profile.name for profile in versions().values()}
    assert folders == {"qwen-image-edit-2511", "qwen-image"}
    mine, base = (model_configuration(name) for name in ("qwen-image", "qwen-image-edit-2511"))
    assert mine is not None and base is not None
    files = sorted(path.relative_to(base) for path in base.rglob("*.json"))
    assert files == sorted(path.relative_to(mine) for path in mine.rglob("*.json"))
    for file in files:
        one, other = (json.loads((folder / file).read_text()) for folder in (mine, base))
        if file.parts[0] == "transformer":
            assert (one.pop("zero_cond_t"), other.pop("zero_cond_t")) == (False, True)
        assert one == other
    assert [version for version, profile in versions().items() if profile.zero_cond_t] == ["2511"]


@pytest.mark.parametrize("profile", versions().values(), ids=versions())
def test_every_model_can_be_pulled_with_its_licence(profile: ModelProfile) -> None:
    assert profile.downloads[profile.name].repository == profile.repository
    assert {download.licence for download in profile.downloads.values()} == {"Apache-2.0"}
    parts = {"model_index", "transformer", "text_encoder", "vae", "tokenizer", "scheduler"}
    assert set(profile.downloads[profile.name].files) - {"processor"} == parts
    assert ("processor" in profile.downloads[profile.name].files) is profile.geometry.takes_pictures
    assert model_named(profile.repository.partition("/")[2]) == profile.version
    steps = {preset.lightning for preset in profile.presets.values() if preset.lightning}
    assert all(profile.lightning_download(each) in profile.downloads for each in steps)
    for name, download in profile.downloads.items():
        for file in download.files.get("lora", ()):
            assert model_named(file.rpartition("/")[2]) == profile.version, name


@pytest.mark.parametrize("version", TEXT_TO_IMAGE)
def test_text_to_image_needs_no_picture_and_has_a_size_of_its_own(version: str) -> None:
    spec = resolved(version, 0).spec
    assert (spec.images, spec.width, spec.height) == ((), 1328, 1328)
    assert (spec.steps, spec.true_cfg_scale) == (50, 4.0)
    assert spec.negative_prompt == versions()[version].default_negative_prompt
    assert resolved(version, 0, width=1664, height=928).spec.size == (1664, 928)
    work = largest_workload(versions()[version], 1 << 20, 1 << 20)
    assert (work.references, work.reference_tokens) == (0, 0)
    answer = ask(plan(), versions()[version], width=1328, height=1328, images=0, guided=True)
    assert answer.text.startswith("1328 x 1328 and guidance fits")


@pytest.mark.parametrize(
    ("version", "pictures", "fields", "field", "said", "remedy"),
    [
        ("2512", 1, {}, "images", "makes pictures from text alone", "a model that edits, such as Qwen-Image-Edit-2511"),
        ("2512", 0, {"mask": "b" * 64}, "mask", "takes none", "Leave the mask out"),
        ("2512", 0, {"size": "same"}, "size", "takes none", "Leave size out"),
        ("edit", 2, {}, "images", "takes 1 picture, not 2", "serve Qwen-Image-Edit-2511, which takes more"),
        (
            "edit",
            0,
            {},
            "images",
            "takes 1 picture, not 0",
            "A model such as Qwen-Image-2512 makes them from text alone.",
        ),
        ("2511", 0, {}, "images", "takes 1 to 3 pictures, not 0", "Send at least one picture"),
        ("firered-1.1", 4, {}, "images", "takes 1 to 3 pictures, not 4", "Send fewer pictures"),
    ],
)
def test_what_a_model_cannot_do_is_a_typed_error_with_a_remedy(
    version: str, pictures: int, fields: dict[str, object], field: str, said: str, remedy: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(version, pictures, **fields)
    assert caught.value.details["field"] == field
    assert said in caught.value.message and remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("version", "made_for", "steps", "words"),
    [
        ("2511", "2509", None, "style is made for 2509, but this model is 2511"),
        ("2509", "2511", 4, "Use a Lightning LoRA for 2509."),
        ("2512", "qwen-image", 8, "style is made for Qwen-Image, but this model is 2512"),
        ("edit", "2509", None, "style is made for 2509, but this model is the first Qwen-Image-Edit"),
        (
            "firered-1.1",
            "firered-1.0",
            8,
            "is made for FireRed-Image-Edit-1.0, but this model is FireRed-Image-Edit-1.1",
        ),
    ],
)
def test_a_lora_for_another_model_is_told(version: str, made_for: str, steps: int | None, words: str) -> None:
    pictures = versions()[version].geometry.least_references
    made = resolved(version, pictures, {"style": LoraFacts(1, 1, steps, made_for)}, steps=steps, true_cfg_scale=1.0)
    assert any(words in warning for warning in made.warnings)
    fitting = resolved(version, pictures, {"style": LoraFacts(1, 1, steps, version)}, steps=steps, true_cfg_scale=1.0)
    assert fitting.warnings == ()


def test_a_preset_without_its_lightning_lora_says_which_to_pull() -> None:
    (warning,) = resolved("2509", 1, preset="preview").warnings
    assert "(qied pull lightning-2509-4steps)" in warning

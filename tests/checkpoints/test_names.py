"""Names and shapes of whole parts, against the model's own classes and diffusers' conversion."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from qied.checkpoints.expected import expected_shapes
from qied.checkpoints.names import is_of_wan, text_encoder_name, transformer_prefix, vae_name
from qied.checkpoints.pipeline_folder import read_json
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import model_configuration
from tests.checkpoints.files import stored, wan_name


@pytest.mark.parametrize("name", ["builtin", "qwen-image-edit-2511", "qwen-image"])
def test_expected_tensors_are_those_of_the_models_classes(name: str) -> None:
    profile, settings = shipped_profiles()[name], model_configuration(shipped_profiles()[name].configuration or name)
    assert settings is not None
    configs = {part: read_json(settings / part / "config.json") for part in ("transformer", "text_encoder", "vae")}
    with torch.device("meta"):
        models = {
            "transformer": QwenImageTransformer2DModel.from_config(configs["transformer"]),
            "text_encoder": Qwen2_5_VLModel(Qwen2_5_VLConfig.from_dict(configs["text_encoder"])),
            "vae": AutoencoderKLQwenImage.from_config(configs["vae"]),
        }
    for part, model in models.items():
        own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        assert expected_shapes(profile, part) == own  # type: ignore[arg-type]


def test_the_real_model_has_the_parameters_that_were_counted() -> None:
    profile = shipped_profiles()["qwen-image-edit-2511"]
    counts = {
        part: sum(torch.Size(shape).numel() for shape in expected_shapes(profile, part).values())  # type: ignore[arg-type]
        for part in ("transformer", "vae")
    }
    assert counts == {"transformer": 20_430_401_088, "vae": 126_892_531}


def test_wans_names_become_diffusers_as_by_its_own_conversion() -> None:
    names = list(stored("vae"))
    wan = {wan_name(name): name for name in names}
    assert len(wan) == len(names) and is_of_wan(wan) and not is_of_wan(names)
    converted = convert_wan_vae_to_diffusers({key: torch.tensor(number) for number, key in enumerate(wan)})
    by_number = {int(number): name for name, number in converted.items()}
    assert {key: vae_name(key) for key in wan} == {key: by_number[number] for number, key in enumerate(wan)} == wan


def test_diffusers_own_names_of_a_vae_stay() -> None:
    assert all(vae_name(name) == name for name in stored("vae"))


@pytest.mark.parametrize(
    "prefix",
    ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.transformer.", "net.", "module."],
)
def test_a_transformers_prefix_is_found(prefix: str) -> None:
    assert transformer_prefix([prefix + name for name in stored("transformer")]) == prefix
    assert transformer_prefix([f"{prefix}transformer_blocks.3.img_mlp.net.2.bias"]) == prefix


@pytest.mark.parametrize("prefix", ["_orig_mod.", "pipe.dit.", "transformer._orig_mod.", "a.b.c.d."])
def test_words_that_no_known_program_writes_are_a_prefix_too(prefix: str) -> None:
    own = [prefix + name for name in stored("transformer")]
    assert transformer_prefix(own) == prefix
    assert transformer_prefix([*own, *(f"ema.{name}" for name in own)]) == prefix
    assert transformer_prefix([*own, *(f"model.{name.removeprefix(prefix)}" for name in own)]) == "model."


def test_what_is_no_transformer_has_no_prefix() -> None:
    assert transformer_prefix(stored("text_encoder")) is None
    assert transformer_prefix(["transformer_blocks.0.attn.to_q.weight", "x"]) is None


@pytest.mark.parametrize(
    ("stored_name", "name"),
    [
        ("lm_head.weight", None),
        ("model.visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"),
        ("visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"),
        ("model.language_model.norm.weight", "language_model.norm.weight"),
        ("model.layers.0.mlp.up_proj.weight", "language_model.layers.0.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", "language_model.embed_tokens.weight"),
    ],
)
def test_text_encoder_names_of_both_generations_are_understood(stored_name: str, name: str | None) -> None:
    assert text_encoder_name(stored_name) == name

"""The counts of the model profiles against the checkpoint itself."""

import json
import math
import struct
from pathlib import Path

from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder


def parameters(component: str) -> int:
    total = 0
    for file in sorted((builtin_model_folder() / component).glob("*.safetensors")):
        total += sum(math.prod(entry["shape"]) for name, entry in header(file).items() if name != "__metadata__")
    return total


def header(file: Path) -> dict[str, dict[str, list[int]]]:
    with file.open("rb") as stored:
        (length,) = struct.unpack("<Q", stored.read(8))
        return json.loads(stored.read(length))


def test_the_transformer_has_as_many_parameters_as_the_profile_says() -> None:
    facts = shipped_profiles()["builtin"].architecture
    blocks = facts.layers * (facts.block_parameters + facts.modulation_parameters)
    assert blocks + facts.rest_parameters == parameters("transformer")


def test_the_text_encoder_has_as_many_parameters_as_the_profile_says() -> None:
    facts = shipped_profiles()["builtin"].architecture.text_encoder
    layers = facts.layers * facts.layer_parameters + facts.vision_layers * facts.vision_layer_parameters
    head_and_table = 2 * facts.embedding_parameters
    assert layers + head_and_table + facts.rest_parameters == parameters("text_encoder")


def test_the_full_model_has_the_parameters_that_were_counted() -> None:
    facts = shipped_profiles()["qwen-image-edit-2511"].architecture
    text = facts.text_encoder
    transformer = facts.layers * (facts.block_parameters + facts.modulation_parameters) + facts.rest_parameters
    layers = text.layers * text.layer_parameters + text.vision_layers * text.vision_layer_parameters
    assert transformer == 20_430_401_088
    assert layers + 2 * text.embedding_parameters + text.rest_parameters == 8_292_166_656

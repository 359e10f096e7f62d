import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from qied_client.errors import ModelNotFound, ModelUnsupported, SetupError

from qied.engine.block.packed import block_tensors
from qied.engine.engine import Engine, EngineOptions
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.resources import builtin_model_folder

Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in model whose files are links, so that a test can replace any of them."""
    original = builtin_model_folder()
    for file in original.rglob("*"):
        if file.is_file():
            link = tmp_path / file.relative_to(original)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file)
    return tmp_path


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.unlink()
    path.write_text(json.dumps(content))


def changed(file: str, **values: object) -> Change:
    return lambda folder: rewrite(folder / file, lambda content: content.update(values))


def cut(path: Path, size: int) -> None:
    content = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(content)


def forget_second_shard(index: dict[str, object]) -> None:
    weight_map = index["weight_map"]
    assert isinstance(weight_map, dict)
    index["weight_map"] = {name: file for name, file in weight_map.items() if file != SHARD}


def load(folder: Path, profile: ModelProfile) -> Engine:
    return Engine.load(folder, profile, EngineOptions(), lambda *_: None)


SHARD = "diffusion_pytorch_model-00002-of-00002.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (lambda f: (f / "transformer" / SHARD).unlink(), ModelNotFound, SHARD),
        (lambda f: (f / "transformer" / INDEX).unlink(), ModelNotFound, INDEX),
        (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), ModelNotFound, "vae"),
        (lambda f: (f / "text_encoder" / "config.json").unlink(), ModelNotFound, "text_encoder"),
        (lambda f: (f / "tokenizer" / "tokenizer_config.json").unlink(), ModelNotFound, "tokenizer"),
        (lambda f: (f / "processor" / "preprocessor_config.json").unlink(), ModelNotFound, "preprocessor_config"),
        (lambda f: (f / "model_index.json").unlink(), ModelNotFound, "model_index.json"),
        (
            lambda f: rewrite(f / "model_index.json", lambda c: c.update(_class_name="FluxPipeline")),
            ModelUnsupported,
            "FluxPipeline",
        ),
        (
            lambda f: rewrite(f / "transformer" / "config.json", lambda c: c.update(zero_cond_t=False)),
            ModelUnsupported,
            "config.json does not set zero_cond_t",
        ),
        (
            lambda f: rewrite(f / "transformer" / "config.json", lambda c: c.pop("zero_cond_t")),
            ModelUnsupported,
            "config.json does not set zero_cond_t",
        ),
        (lambda f: cut(f / "transformer" / SHARD, 5_000_000), ModelUnsupported, "is truncated at"),
        (lambda f: cut(f / "model_index.json", 20), ModelUnsupported, "not valid JSON"),
        (
            lambda f: rewrite(f / "transformer" / "config.json", lambda c: c.update(joint_attention_dim=64)),
            ModelUnsupported,
            "does not fit",
        ),
        (
            lambda f: rewrite(f / "vae" / "config.json", lambda c: c.update(num_res_blocks=3)),
            ModelUnsupported,
            "vae",
        ),
        (lambda f: rewrite(f / "transformer" / INDEX, forget_second_shard), ModelUnsupported, "transformer lacks"),
        (lambda f: rewrite(f / "transformer" / INDEX, lambda c: c.clear()), ModelUnsupported, "weight_map"),
        *[
            (
                changed(f"transformer/{INDEX}", weight_map=weight_map),
                ModelUnsupported,
                "in the weight_map does not name",
            )
            for weight_map in ({"a": 1}, {"a": SHARD, "b": None}, {"a": ["x"]}, {"a": "../vae/config.json"})
        ],
        (lambda f: cut(f / "tokenizer" / "tokenizer_config.json", 1), ModelUnsupported, "tokenizer cannot be used"),
        (lambda f: cut(f / "tokenizer" / "tokenizer.json", 50), ModelUnsupported, "tokenizer cannot be used"),
        (changed("processor/preprocessor_config.json", size="x"), ModelUnsupported, "preprocessor_config.json cannot"),
        (changed("text_encoder/config.json", vision_config="x"), ModelUnsupported, "text_encoder/config.json"),
        (
            changed("text_encoder/config.json", text_config={"hidden_size": "x"}),
            ModelUnsupported,
            "text_encoder/config",
        ),
        (
            changed("text_encoder/config.json", text_config={"num_attention_heads": 0}),
            ModelUnsupported,
            "text_encoder/",
        ),
        (changed("vae/config.json", dim_mult="x"), ModelUnsupported, "vae/config.json"),
        (changed("vae/config.json", latents_mean=None), ModelUnsupported, "vae/config.json"),
        (changed("vae/config.json", latents_mean=[0.5] * 15), ModelUnsupported, "latents_mean should be 16 numbers"),
        (changed("vae/config.json", latents_std=[0.0] * 16), ModelUnsupported, "latents_std should be 16 numbers"),
        (changed("transformer/config.json", num_attention_heads="4"), ModelUnsupported, "transformer/config.json"),
        (changed("transformer/config.json", attention_head_dim=None), ModelUnsupported, "transformer/config.json"),
        (changed("transformer/config.json", axes_dims_rope=[8, 28, 26]), ModelUnsupported, "sum to 64"),
        (changed("transformer/config.json", axes_dims_rope=[36, 28, 0]), ModelUnsupported, "sum to 64"),
        (changed("transformer/config.json", axes_dims_rope=[7, 29, 28]), ModelUnsupported, "transformer/config.json"),
        (changed("transformer/config.json", axes_dims_rope=None), ModelUnsupported, "transformer/config.json"),
        (changed("scheduler/scheduler_config.json", max_shift="x"), ModelUnsupported, "max_shift"),
    ],
)
def test_a_folder_with_a_fault_is_refused_with_the_files_name_and_a_remedy(
    folder: Path, profile: ModelProfile, change: Change, error: type[SetupError], named: str
) -> None:
    change(folder)
    with pytest.raises(error, match=named) as raised:
        load(folder, profile)
    assert raised.value.remedy


def test_a_folder_that_does_not_exist_is_not_found(tmp_path: Path, profile: ModelProfile) -> None:
    with pytest.raises(ModelNotFound, match="nowhere"):
        load(tmp_path / "nowhere", profile)


def test_a_profile_of_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelUnsupported, match="60"):
        load(folder, shipped_profiles()["qwen-image-edit-2511"])


def test_faults_are_found_before_any_weight_is_read(folder: Path, profile: ModelProfile) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    seen: list[str] = []
    with pytest.raises(ModelNotFound):
        Engine.load(folder, profile, EngineOptions(), lambda what, *_: seen.append(what))
    assert seen == []


def test_progress_rises_through_every_component_to_the_bytes_of_all_files(profile: ModelProfile) -> None:
    seen: list[tuple[str, int, int]] = []
    Engine.load(builtin_model_folder(), profile, EngineOptions(), lambda *state: seen.append(state))
    size = sum(file.stat().st_size for file in builtin_model_folder().rglob("*.safetensors"))
    assert {total for _, _, total in seen} == {size}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == size
    assert list(dict.fromkeys(what for what, _, _ in seen)) == ["text_encoder", "transformer", "vae"]


def test_weights_are_what_the_files_hold_and_not_random(engine: Engine, load_engine: Callable[..., Engine]) -> None:
    again = load_engine(dtype="fp32")
    transformers = [each.models.transformer for each in (engine, again)]
    for buffers in zip(*(transformer.blocks.buffers() for transformer in transformers), strict=True):
        one, two = (block_tensors(transformers[0].blocks.layout, buffer) for buffer in buffers)
        assert all(torch.equal(one[name], two[name]) for name in one)
    pairs = [tuple(transformer._embedders for transformer in transformers)]
    for name in ("text_encoder", "vae"):
        pairs.append(tuple(getattr(each.models, name).model for each in (engine, again)))
    for first, second in pairs:
        assert first.state_dict().keys() == second.state_dict().keys()
        for key, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[key])


def test_loading_draws_no_random_numbers(load_engine: Callable[..., Engine]) -> None:
    before = torch.get_rng_state()
    load_engine(dtype="fp32")
    assert torch.equal(torch.get_rng_state(), before)


def test_bf16_weights_take_half_the_memory_apart_from_the_vae(
    engine: Engine, load_engine: Callable[..., Engine]
) -> None:
    half = load_engine(dtype="bf16")
    vae = sum(weight.nbytes for weight in engine.models.vae.model.parameters())
    assert (half.memory_bytes() - vae) * 2 == pytest.approx(engine.memory_bytes() - vae, rel=0.001)

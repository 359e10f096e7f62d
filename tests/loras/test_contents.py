"""What is in a LoRA file is told from its header, and what is wrong with it by file, tensor and remedy."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qied_client.errors import ModelUnsupported

from qied.loras.contents import read_contents
from qied.planning.profiles.model_profile import shipped_profiles

BUILTIN = shipped_profiles()["builtin"].architecture
REAL = shipped_profiles()["qwen-image-edit-2511"].architecture
DOWN, UP = "transformer_blocks.0.attn.to_q.lora_A.weight", "transformer_blocks.0.attn.to_q.lora_B.weight"
NO_TYPE = b'{"a": {"dtype": [], "shape": [], "data_offsets": [0, 0]}}'
TO_Q = "transformer_blocks.0.attn.to_q"
GOOD = {DOWN: [4, 256], UP: [256, 4]}
WORDS = st.sampled_from([DOWN, UP, "dtype", "shape", "data_offsets", "__metadata__", "lora_adapter_metadata", "x"])
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", "BF16", "I8", ""]) | WORDS


def write(path: Path, shapes: dict[str, list[int]], *, dtype: str = "BF16", metadata: object = None) -> Path:
    """A file of zeros with such a header."""
    sizes = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4}
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * sizes[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


@pytest.fixture
def read(tmp_path):
    def contents(shapes, **options):
        return read_contents(write(tmp_path / "a.safetensors", shapes, **options), "a.safetensors", BUILTIN)

    return contents


def test_parameters_and_width_count_what_is_on_the_device_at_once(tmp_path, write_lora):
    modules = ("attn.to_q", "attn.to_k", "attn.to_v", "img_mlp.net.2", "img_mod.1")
    write_lora(tmp_path / "a.safetensors", modules=modules, blocks=(0, 5), rank=3)
    contents = read_contents(tmp_path / "a.safetensors", "a.safetensors", BUILTIN)
    assert len(contents.linears) == 8 and len(contents.modulation) == 2
    assert contents.parameters == 2 * 3 * (3 * 512 + 1280)
    assert contents.width == 9, "queries, keys and values share their input"


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E4M3"])
def test_any_floating_point_type_is_taken(read, dtype):
    assert read(GOOD, dtype=dtype).linears[0].rank == 4


def test_a_convolution_of_one_pixel_is_a_linear(read):
    assert read({DOWN: [4, 256, 1, 1], UP: [256, 4, 1, 1]}).linears[0].rank == 4


@pytest.mark.parametrize("shape", [[], [1], [1, 1], [4]])
def test_an_alpha_may_have_any_shape_and_be_an_integer(tmp_path, shape):
    shapes = {**{name: (shape, "BF16") for name, shape in GOOD.items()}, f"{TO_Q}.alpha": (shape, "I32")}
    header, end = {}, 0
    for name, (sides, dtype) in shapes.items():
        start, end = end, end + math.prod(sides) * (4 if dtype == "I32" else 2)
        header[name] = {"dtype": dtype, "shape": sides, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    assert read_contents(tmp_path / "a.safetensors", "a.safetensors", BUILTIN).linears[0].alpha == f"{TO_Q}.alpha"


def test_what_would_take_the_room_of_another_model_is_refused(read):
    mlp = [f"transformer_blocks.{block}.{stream}_mlp.net.2" for block in range(6) for stream in ("img", "txt")]
    with pytest.raises(ModelUnsupported, match="its full difference takes 3,932,160 numbers, and at most"):
        read({f"{name}.diff": [256, 1024] for name in mlp})
    assert read({f"{name}.diff": [256, 1024] for name in mlp[:6]}).parameters == 6 * 327_680


def test_what_each_kind_takes_of_the_device_is_counted(read):
    lokr = read({f"{TO_Q}.lokr_w1": [4, 4], f"{TO_Q}.lokr_w2_a": [64, 2], f"{TO_Q}.lokr_w2_b": [2, 64]})
    assert (lokr.methods, lokr.parameters, lokr.width, lokr.rank) == (("LoKr",), 16 + 64 * 64, 256, 0)
    assert lokr.linears[0].divisor == 2
    loha = read({f"{TO_Q}.hada_w{n}_{side}": [256, 3] if side == "a" else [3, 256] for n in (1, 2) for side in "ab"})
    assert (loha.methods, loha.parameters, loha.width, loha.rank) == (("LoHa",), 9 * 512, 9, 9)
    whole = read({f"{TO_Q}.diff": [256, 256], f"{TO_Q}.diff_b": [256]})
    assert (whole.methods, whole.parameters, whole.rank) == (("full difference",), 2 * 256 * 256 + 256, 256)
    around = read({"proj_out.diff_b": [64], "norm_out.linear.diff_b": [512]})
    assert (len(around.around), len(around.modulation), around.parameters) == (1, 1, 64)


def test_diffusers_alphas_count_where_a_module_has_no_tensor_of_its_own(read):
    other = "transformer_blocks.1.attn.to_k"
    shapes = {**GOOD, f"{other}.lora_A.weight": [2, 256], f"{other}.lora_B.weight": [256, 2]}
    config = {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.alpha_pattern": {"^1.attn.to_k": 1}}
    contents = read(shapes, metadata={"lora_adapter_metadata": json.dumps(config)})
    assert [pair.scale for pair in contents.linears] == [2.0, 0.5]
    stabilised = {"lora_adapter_metadata": json.dumps({**config, "use_rslora": True})}
    assert [pair.scale for pair in read(shapes, metadata=stabilised).linears] == [4.0, 1 / 2**0.5]
    assert [pair.scale for pair in read(shapes).linears] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({}, "it holds no tensors"),
        ({DOWN: [4, 256]}, f"{DOWN} has no B (up) matrix to go with it"),
        ({UP: [256, 4]}, f"{UP} has no A (down) matrix to go with it"),
        ({DOWN: [4, 256], UP: [256, 8]}, f"{DOWN} has rank 4, but {UP} has 8"),
        ({DOWN: [4, 3072], UP: [3072, 4]}, f"{DOWN} is [4, 3072], but should be [rank, 256]"),
        ({DOWN: [4, 256], UP: [3072, 4]}, f"{UP} is [3072, 4], but should be [256, rank]"),
        ({DOWN: [4, 256, 3, 3], UP: [256, 4, 1, 1]}, f"{DOWN} is [4, 256, 3, 3]"),
        ({DOWN: [0, 256], UP: [256, 0]}, f"{DOWN} is [0, 256]"),
        ({key.replace(".0.", ".6."): shape for key, shape in GOOD.items()}, "belongs to block 6, but the model has 6"),
        ({**GOOD, f"{TO_Q}.alpha": [0]}, f"'{TO_Q}.alpha' is [0], but should be one number"),
        ({f"{TO_Q}.alpha": []}, f"{TO_Q}.alpha has no A (down) matrix to go with it"),
        ({f"{TO_Q}.diff": [256, 255]}, f"{TO_Q}.diff is [256, 255], but should be [256, 256]"),
        ({f"{TO_Q}.diff_b": [255]}, f"{TO_Q}.diff_b is [255], but should be [256]"),
        ({**GOOD, f"{TO_Q}.diff": [256, 256]}, "belongs to a change of two kinds, LoRA and full difference"),
        ({f"{TO_Q}.lokr_w1": [4, 4], f"{TO_Q}.lokr_w2": [64, 32]}, "is [256, 128], but should be [256, 256]"),
        ({f"{TO_Q}.lokr_w1": [4, 4]}, f"{TO_Q}.lokr_w1 has no lokr_w2_a matrix"),
        (
            {f"{TO_Q}.lokr_w1": [4, 4], f"{TO_Q}.lokr_w2_a": [64, 2], f"{TO_Q}.lokr_w2_b": [3, 64]},
            f"{TO_Q}.lokr_w2_b has rank 3, but its other half has 2",
        ),
        ({f"{TO_Q}.hada_w1_a": [256, 2], f"{TO_Q}.hada_w1_b": [2, 256]}, "has no hada_w2_b matrix"),
        ({f"{TO_Q}.lokr_w1": [256], f"{TO_Q}.lokr_w2": [1, 256]}, f"{TO_Q}.lokr_w1 is [256], but should be a matrix"),
        ({**GOOD, f"transformer.{DOWN}": [4, 256]}, "are the same part of one module"),
        ({**GOOD, "img_in.lora_A.weight": [4, 65]}, "img_in.lora_A.weight has no B (up) matrix"),
        ({**GOOD, "other.lora_A.weight": [4, 64]}, "'other.lora_A.weight' changes no linear of the transformer"),
        ({**GOOD, "x\x1b.transformer_blocks.0.attn.to_k.lora_A.weight": [4, 4]}, r"'x\x1b.transformer_blocks"),
        ({**GOOD, f"{TO_Q}.dora_scale": [1]}, f"it was trained with DoRA ('{TO_Q}.dora_scale')"),
        ({"lora_te1_layers_0_mlp_up.lora_up.weight": [4, 4]}, "it only changes the text encoder"),
    ],
)
def test_what_does_not_fit_is_refused_by_file_and_tensor(read, shapes, said):
    with pytest.raises(ModelUnsupported) as caught:
        read(shapes)
    assert said in caught.value.message
    assert caught.value.message.startswith("The LoRA file a.safetensors cannot be used: ")
    assert caught.value.remedy


def test_a_lora_of_another_model_is_refused_with_the_shape_that_would_fit(tmp_path, write_lora):
    write_lora(tmp_path / "a.safetensors")
    with pytest.raises(ModelUnsupported, match=r"is \[4, 256\], but should be \[rank, 3072\]") as caught:
        read_contents(tmp_path / "a.safetensors", "a.safetensors", REAL)
    assert "made for the served model" in caught.value.remedy


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"PK\3\4 a pickle, say, and more of it", "it is a pickle"),
        (struct.pack("<Q", 4) + b"[1]\n", "not a JSON object"),
        (struct.pack("<Q", 4) + b"{{{{", "not JSON"),
        (struct.pack("<Q", 2) + b"{}", "it holds no tensors"),
        (struct.pack("<Q", 10) + b'{"a": 12} ', "its header is damaged at 'a'"),
        (struct.pack("<Q", len(NO_TYPE)) + NO_TYPE, "its header is damaged at 'a'"),
        (struct.pack("<Q", 40_000) + b"[" * 40_000, "not JSON"),
        (struct.pack("<Q", 17 << 20) + bytes(17 << 20), "its header has"),
    ],
    ids=["empty", "zip", "list", "text", "nothing", "entry", "type", "deep", "long"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, data, said):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(ModelUnsupported, match=said):
        read_contents(tmp_path / "a.safetensors", "a.safetensors", BUILTIN)


def test_a_file_that_is_cut_off_or_holds_integers_is_refused(tmp_path):
    path = write(tmp_path / "a.safetensors", GOOD)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelUnsupported, match="truncated at"):
        read_contents(path, "a.safetensors", BUILTIN)
    with pytest.raises(ModelUnsupported, match="holds I32"):
        read_contents(write(path, GOOD, dtype="I32"), "a.safetensors", BUILTIN)
    with pytest.raises(ModelUnsupported, match="cannot be read"):
        read_contents(tmp_path / "missing.safetensors", "missing.safetensors", BUILTIN)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"transformer.use_dora": true}', "use_dora"),
        ('{"lora_alpha": "8"}', "lora_alpha in its header is '8'"),
        ('{"lora_alpha": 1, "alpha_pattern": {"(a+)+b": 1}}', "alpha_pattern '\\(a\\+\\)\\+b'"),
        ('{"lora_alpha": 1, "alpha_pattern": 3}', "alpha_pattern in its header"),
    ],
)
def test_notes_that_cannot_be_followed_are_refused(read, config, said):
    with pytest.raises(ModelUnsupported, match=said):
        read(GOOD, metadata={"lora_adapter_metadata": config})


@given(text=st.recursive(JSON, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_header_gives_contents_or_the_typed_error(tmp_path, text):
    header = json.dumps(text).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2048))
    with pytest.raises(ModelUnsupported):
        read_contents(tmp_path / "a.safetensors", "a.safetensors", BUILTIN)


def test_an_alpha_of_very_many_digits_is_refused_and_stops_nothing(read):
    digits = "1" + "0" * 400
    with pytest.raises(ModelUnsupported, match="lora_alpha in its header is '1000"):
        read(GOOD, metadata={"lora_adapter_metadata": f'{{"transformer.lora_alpha": {digits}}}'})


PEFT = {f"base_model.model.{name}": shape for name, shape in GOOD.items()}


def test_a_file_of_peft_takes_its_alpha_from_the_configuration_beside_it(read, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 32, "use_rslora": false}')
    assert read(PEFT).linears[0].scale == 8
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 32, "use_rslora": true}')
    assert read(PEFT).linears[0].scale == 16


def test_pefts_other_methods_have_their_alpha_beside_them_too(read, tmp_path):
    prefix = f"base_model.model.{TO_Q}"
    loha = {f"{prefix}.hada_w{n}_{side}": [256, 4] if side == "a" else [4, 256] for n in (1, 2) for side in "ab"}
    low = {f"{prefix}.lokr_w1": [4, 4], f"{prefix}.lokr_w2_a": [64, 4], f"{prefix}.lokr_w2_b": [4, 64]}
    for kind, shapes in (("LOHA", loha), ("LOKR", low)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "r": 4, "alpha": 8}))
        assert read(shapes).linears[0].scale == 2
    with pytest.raises(ModelUnsupported, match="a LoKr of whole matrices, whose alpha is only in a configuration"):
        read({f"{prefix}.lokr_w1": [4, 4], f"{prefix}.lokr_w2": [64, 64]})


def test_a_file_of_peft_without_its_configuration_is_refused(read, tmp_path):
    with pytest.raises(ModelUnsupported, match=r"PEFT's adapter_config\.json, which is not next to it"):
        read(PEFT)
    (tmp_path / "adapter_config.json").write_bytes(b" " * (1 << 21))
    with pytest.raises(ModelUnsupported, match="has more than 1048576 bytes"):
        read(PEFT)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelUnsupported, match="the adapter_config.json next to it is not a JSON object"):
        read(PEFT)


def test_control_characters_of_a_header_do_not_reach_a_terminal(read):
    with pytest.raises(ModelUnsupported) as caught:
        read({"a\x1b[31m\n.lora_A.weight": [4, 256]}, dtype="I32")
    assert "\x1b" not in caught.value.message and "\n" not in caught.value.message

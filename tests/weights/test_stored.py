"""How weights are stored: kinds of FP8 told apart, scales with the weights that they belong to, the rest refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from qied.weights.foreign_formats import check_marker
from qied.weights.header import Header, TensorEntry
from qied.weights.problems import BadFile
from qied.weights.stored import Stored, as_marked, layer_markers, precision_of, stored_tensors

W = "block.weight"


def header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], **metadata: str) -> Header:
    return Header({name: TensorEntry(dtype, shape, 0, 8) for name, (dtype, shape) in tensors.items()}, metadata, 0)


def layers(*formats: Any) -> str:
    return json.dumps({"layers": {f"l{number}": one for number, one in enumerate(formats)}})


FP8 = ("F8_E4M3", (4, 2))
NVFP4 = {W: ("U8", (4, 16)), "block.weight_scale": ("F8_E4M3", (128, 4)), "block.weight_scale_2": ("F32", ())}
MXFP8 = {W: ("F8_E4M3", (4, 128)), "block.weight_scale": ("U8", (128, 4))}
MARKER = {"block.comfy_quant": ("U8", (27,))}


@pytest.mark.parametrize(
    ("others", "precision", "scale"),
    [
        ({}, "fp8_plain", None),
        ({"block.scale_weight": ("F32", ())}, "fp8_scaled", "block.scale_weight"),
        (
            {"block.scale_weight": ("F32", (1,)), "block.scale_input": ("F32", ()), "scaled_fp8": ("F8_E4M3", (2,))},
            "fp8_scaled",
            "block.scale_weight",
        ),
        ({"block.weight_scale": ("F32", ()), **MARKER}, "fp8_comfy", "block.weight_scale"),
        ({"block.weight_scale": ("F32", ()), "block.input_scale": ("F32", ())}, "fp8_comfy", "block.weight_scale"),
        ({"block.weight_scale": ("F32", (4, 1))}, "fp8_lightx2v", "block.weight_scale"),
        ({"block.weight_scale": ("BF16", (4,))}, "fp8_lightx2v", "block.weight_scale"),
        ({"block.weight_scale": ("F32", (4, 1)), **MARKER}, "fp8_comfy", "block.weight_scale"),
    ],
)
def test_the_kind_of_fp8_is_told_by_its_scale(others: dict[str, Any], precision: str, scale: str | None) -> None:
    found = stored_tensors(header({W: FP8, **others}))
    assert set(found) == {W}
    assert found[W].precision == precision
    assert (found[W].scale[0] if found[W].scale else None) == scale
    assert precision_of(found) == precision


def test_each_layer_may_differ_and_the_file_is_called_by_the_richest() -> None:
    found = stored_tensors(
        header(
            {
                "a.weight": FP8,
                "a.weight_scale": ("F32", ()),
                "b.weight": ("BF16", (4000, 2)),
                "c.weight": FP8,
                "c.bias": ("F32", (4,)),
            }
        )
    )
    assert {name: one.precision for name, one in found.items()} == {
        "a.weight": "fp8_comfy",
        "b.weight": "bf16",
        "c.weight": "fp8_plain",
        "c.bias": "fp32",
    }
    assert precision_of(found) == "fp8_comfy"


def test_without_fp8_most_bytes_decide() -> None:
    tensors = {"a.weight": TensorEntry("F32", (2, 2), 0, 16), "b.weight": TensorEntry("F16", (9, 9), 0, 162)}
    assert precision_of(stored_tensors(Header(tensors, {}, 0))) == "fp16"
    assert precision_of({}) is None


def test_a_tensor_that_only_looks_like_a_scale_is_a_weight() -> None:
    assert set(stored_tensors(header({"norm.weight_scale": ("F32", (4,))}))) == {"norm.weight_scale"}


@pytest.mark.parametrize(("tensors", "precision", "shape"), [(NVFP4, "nvfp4", (4, 32)), (MXFP8, "mxfp8", (4, 128))])
@pytest.mark.parametrize("where", ["tensor", "header"])
def test_block_scaled_weights_that_are_marked_have_the_shape_of_their_numbers(
    tensors: dict[str, Any], precision: str, shape: tuple[int, ...], where: str
) -> None:
    texts = {"_quantization_metadata": json.dumps({"layers": {"block": {"format": precision}}})}
    found = stored_tensors(header({**tensors, **MARKER}) if where == "tensor" else header(tensors, **texts))
    assert set(found) == {W}
    one = found[W]
    assert (one.precision, one.entry.shape, one.block_scale) == (precision, shape, "block.weight_scale")
    assert one.marker == ("block.comfy_quant" if where == "tensor" else None)
    assert (one.scale is not None) == (precision == "nvfp4")
    int8 = Stored("b.weight", TensorEntry("I8", (9, 9), 0, 81), "int8")
    assert precision_of({**found, "b.weight": int8}) == precision


def test_scales_of_mxfp8_may_be_of_their_own_type() -> None:
    found = stored_tensors(header({**MXFP8, **MARKER, "block.weight_scale": ("F8_E8M0", (128, 4))}))
    assert (found[W].precision, found[W].entry.shape) == ("mxfp8", (4, 128))


@pytest.mark.parametrize("group", [16, 256])
@pytest.mark.parametrize("where", ["tensor", "header"])
def test_a_rotation_belongs_to_int8_whose_rows_it_divides(group: int, where: str) -> None:
    said = {"format": "int8_tensorwise", "convrot": True} | ({} if group == 256 else {"convrot_groupsize": group})

    def read(shape: tuple[int, ...], kind: tuple[str, str] = ("I8", "int8_tensorwise")) -> Stored:
        tensors = {W: (kind[0], shape), "block.weight_scale": ("F32", ())}
        marker = {**said, "format": kind[1]}
        if where == "header":
            texts = {"_quantization_metadata": json.dumps({"layers": {"block": marker}})}
            return stored_tensors(header(tensors, **texts))[W]
        found = stored_tensors(header({**tensors, **MARKER}))[W]
        return as_marked(found, {"block.comfy_quant": check_marker(json.dumps(marker).encode(), "block.comfy_quant")})

    assert read((4, 2 * group)).group == group
    unmarked = stored_tensors(header({W: ("I8", (4, group)), "block.weight_scale": ("F32", ())}))[W]
    assert as_marked(unmarked, {}) is unmarked
    assert read((4, 2 * group), ("F8_E4M3", "float8_e4m3fn")).group == 1
    for shape in ((4, 2 * group + 4), (4, group, 1)):
        with pytest.raises(BadFile, match=f"'block.weight' is .*, but rotated in groups of {group}"):
            read(shape)
    if where == "tensor":
        with pytest.raises(BadFile, match="is said to be float8_e4m3fn, but it is stored as int8_tensorwise"):
            read((4, 2 * group), ("I8", "float8_e4m3fn"))


def test_a_file_without_matrices_and_an_empty_tensor_of_any_type_are_read() -> None:
    found = stored_tensors(header({"a.bias": ("F16", (4,)), "__marker__": ("U8", (0,))}))
    assert {name: one.precision for name, one in found.items()} == {"a.bias": "fp16", "__marker__": "fp32"}
    tensors = {"a.bias": TensorEntry("F16", (4,), 0, 8), "b.bias": TensorEntry("BF16", (3,), 8, 14)}
    assert precision_of(stored_tensors(Header(tensors, {}, 0))) == "fp16"


def test_a_name_that_ends_like_a_second_scale_needs_its_weight() -> None:
    assert set(stored_tensors(header({"norm.weight_scale_2": ("F32", ())}))) == {"norm.weight_scale_2"}
    assert set(stored_tensors(header({"block": ("F32", (2,)), W: FP8}))) == {"block", W}


def test_a_second_scale_of_another_weight_is_a_tensor_of_its_own() -> None:
    scales = {"block.weight_scale": ("F32", ()), "block.weight_scale_2": ("F32", ())}
    assert set(stored_tensors(header({W: FP8, **scales, **MARKER}))) == {W, "block.weight_scale_2"}


@pytest.mark.parametrize("named", ["nvfp4", "mxfp8", "int8_tensorwise", "float8_e4m3fn"])
@pytest.mark.parametrize(
    ("tensors", "own"),
    [
        (NVFP4, "nvfp4"),
        (MXFP8, "mxfp8"),
        ({W: ("I8", (4, 2)), "block.weight_scale": ("F32", (4, 1))}, "int8_tensorwise"),
        ({W: FP8, "block.weight_scale": ("F32", ())}, "float8_e4m3fn"),
        ({W: FP8}, "float8_e4m3fn"),
    ],
)
def test_a_layer_that_is_said_to_be_of_another_format_is_refused(tensors: dict[str, Any], own: str, named: str) -> None:
    texts = {"_quantization_metadata": json.dumps({"layers": {"block": {"format": named}}})}
    if named == own:
        assert stored_tensors(header(tensors, **texts))
        return
    with pytest.raises(BadFile, match=f"'block.weight' is said to be {named}, but it is stored as {own}"):
        stored_tensors(header(tensors, **texts))


def test_the_markers_of_layers_are_known() -> None:
    found = stored_tensors(header({W: FP8, "block.weight_scale": ("F32", ()), **MARKER}))
    assert list(layer_markers(found)) == ["block.comfy_quant"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({**NVFP4}, "block is stored as nvfp4, but not marked as ComfyUI's"),
        ({W: ("U8", (4, 1)), "block.weight_scale": ("F8_E4M3", (4, 1))}, "nvfp4, but not marked"),
        ({**MXFP8}, "mxfp8, but not marked"),
        ({W: FP8, "block.weight_scale": ("F8_E8M0", (4, 1))}, "mxfp8, but not marked"),
        ({**NVFP4, **MARKER, W: ("U8", (4, 9))}, r"'block.weight' is \[4, 9\], which nvfp4 cannot be"),
        ({**NVFP4, **MARKER, W: ("U8", (4, 0))}, r"is \[4, 0\], which nvfp4 cannot be"),
        ({**NVFP4, **MARKER, W: ("U8", (64,))}, r"is \[64\], which nvfp4 cannot be"),
        ({**MXFP8, **MARKER, W: ("F8_E4M3", (4, 48))}, r"is \[4, 48\], which mxfp8 cannot be"),
        (
            {**NVFP4, **MARKER, "block.weight_scale": ("F8_E4M3", (4, 4))},
            r"scales of 'block.weight' are \[4, 4\], but should be \[128, 4\] for nvfp4",
        ),
        (
            {**MXFP8, **MARKER, W: ("F8_E4M3", (130, 160))},
            r"scales of 'block.weight' are \[128, 4\], but should be \[256, 8\] for mxfp8",
        ),
        ({**NVFP4, **MARKER, "block.weight_scale_2": ("F32", (4,))}, r"_2' is \[4\] of F32, but should be one number"),
        ({**NVFP4, **MARKER, "block.weight_scale_2": ("BF16", ())}, r"_2' is \[\] of BF16, but should be one number"),
        (
            {W: NVFP4[W], "block.weight_scale": NVFP4["block.weight_scale"], **MARKER},
            "has no 'block.weight_scale_2', which nvfp4 requires",
        ),
        ({W: ("F8_E5M2", (4, 2))}, "float8_e5m2"),
        ({W: ("F8_E4M3FNUZ", (4, 2))}, "float8_e4m3fnuz"),
        ({W: ("I8", (4, 2))}, "int8 without scales"),
        ({W: ("I8", (4, 2)), "block.weight_s_rel": ("F8_E4M3", (4, 1))}, "asym_w4a8_int8"),
        ({"block.qweight": ("I32", (4, 2)), "block.wscales": ("BF16", (4,))}, r"svdquant \(Nunchaku\)"),
        ({"block.qweight": ("I32", (4, 2)), "block.qzeros": ("I32", (4,))}, "AWQ or GPTQ"),
        ({W: ("U8", (8, 1)), "block.weight.absmax": ("U8", (4,)), "block.weight.quant_map": ("F32", (16,))}, "4-bit"),
        ({"block.weight._data": ("I8", (4, 2)), "block.weight._scale": ("BF16", (4, 1))}, "quanto"),
        ({"block.W_q": ("U8", (4, 1)), "block.meta": ("F32", (4,))}, "HQQ"),
        ({W: ("I8", (4, 2)), "block.scale": ("F32", (4, 1))}, "SDNQ"),
        ({W: ("U8", (4,)), "block.scale": ("F32", (4, 1)), "block.zero_point": ("F32", (4, 1))}, "SDNQ"),
        ({W: FP8, "block.weight_scale_inv": ("F32", (1, 1))}, "scales for blocks of 128 x 128"),
        ({"block._weight_qdata": ("I8", (4, 2)), "block._weight_scale": ("F32", (4,))}, "torchao"),
        ({f"block.weight.tensor_impl.{one}": ("I8", (4, 2)) for one in ("int_data", "scale")}, "torchao's older form"),
        ({W: ("F4", (4, 2))}, "4- or 6-bit"),
        ({W: ("U8", (4, 16)), "block.weight_scale": ("F32", (4, 1))}, "packed integers"),
        ({W: ("BF16", (4, 32)), "block.weight_scale": ("F8_E4M3", (128, 4))}, "has the scale of an FP8 weight"),
        ({W: ("BF16", (4, 128)), "block.weight_scale": ("U8", (128, 4))}, "has the scale of an FP8 weight"),
        ({W: ("F8_E4M3", (4, 2, 1)), "block.weight_scale": ("F32", (4,))}, r"is \[4\], but should be one number"),
        ({W: FP8, "block.weight_scale": ("F32", (2, 1))}, r"\[2, 1\], but should be one number or \[4, 1\]"),
        ({W: FP8, "block.weight_scale": ("I32", ())}, "holds I32, but should hold F32"),
        ({W: FP8, "block.weight_scale": ("F32", ()), "block.scale_weight": ("F32", ())}, "has two scales"),
        ({"a": ("I64", (4,))}, "'a' holds I64, not floating-point numbers"),
        ({W: ("BF16", (4, 2)), "block.weight_scale": ("F32", ())}, "holds BF16, but has the scale of an FP8 weight"),
        ({W: FP8, **MARKER}, "has no scale, which 'block.comfy_quant' requires"),
        ({W: ("F8_E4M3", ()), "block.weight_scale": ("F32", ())}, "but has a scale"),
        ({W: ("F8_E4M3", (4, 0)), "block.weight_scale": ("F32", ())}, "but has a scale"),
    ],
)
def test_formats_that_are_not_run_are_refused_by_name(tensors: dict[str, Any], said: str) -> None:
    with pytest.raises(BadFile, match=said) as caught:
        stored_tensors(header(tensors))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (layers({"format": "float8_e4m3fn"}, {"format": "awq_w4a16"}), "l1 is stored as awq_w4a16"),
        (layers({"format": "convrot_w4a4"}), "convrot_w4a4"),
        (layers({"format": "something_new"}), "something_new"),
        (layers({}), "names no format of 'l0'"),
        (layers(3), "names no format of 'l0'"),
        ("[]", "names no layers"),
        ("{", "names no layers"),
    ],
)
def test_formats_that_the_header_names_are_heeded(text: str, said: str) -> None:
    with pytest.raises(BadFile, match=said):
        stored_tensors(header({W: FP8}, _quantization_metadata=text))
    assert stored_tensors(header({W: FP8}, _quantization_metadata=layers({"format": "float8_e4m3fn"})))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"format": "svdquant_w4a4"}', "block is stored as svdquant_w4a4"),
        (b'{"format": "float8_e5m2"}', "float8_e5m2"),
        (b"{}", "names no format"),
        (b"\xff\xff", "names no format"),
        (b"[" * 3000, "names no format"),
        *(
            (json.dumps({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": group}).encode(), said)
            for group, said in (
                (100, "rotated in groups of 100, which are no power of 4"),
                (1, "groups of 1,"),
                (4**8, "groups of 65536,"),
                ("256", "groups of 256,"),
                (True, "groups of True,"),
            )
        ),
    ],
)
def test_the_marker_of_a_layer_is_heeded(content: bytes, said: str) -> None:
    with pytest.raises(BadFile, match=said):
        check_marker(content, "block.comfy_quant")
    check_marker(b'{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}', "block.comfy_quant")


@pytest.mark.parametrize("before", ["", "model.diffusion_model."])
def test_a_headers_layer_may_lack_the_prefix_of_the_file(before: str) -> None:
    named = {"block": {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}}
    tensors = {f"{before}block.weight": ("I8", (4, 32)), f"{before}block.weight_scale": ("F32", (4, 1))}
    found = stored_tensors(header(tensors, _quantization_metadata=json.dumps({"layers": named})))
    assert found[f"{before}block.weight"].group == 16
    other = {f"{before}other.weight": ("I8", (4, 32)), f"{before}other.weight_scale": ("F32", (4, 1))}
    text = json.dumps({"layers": named})
    assert stored_tensors(header(other, _quantization_metadata=text))[f"{before}other.weight"].group == 1


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_a_layer_that_was_left_as_it_is_may_be_named(dtype: str) -> None:
    named = json.dumps({"layers": {"block": {"format": "nvfp4"}}})
    assert stored_tensors(header({W: (dtype, (4, 32))}, _quantization_metadata=named))[W].scale is None

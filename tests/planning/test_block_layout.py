import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.planning.layout.block_layout import ALIGNMENT, BlockShape, block_bytes, block_layout, linears
from qied.planning.profiles.model_profile import shipped_profiles

FULL = BlockShape(inner_dim=3072, mlp_dim=12288, head_dim=128)
shapes = st.builds(
    lambda heads, head_dim, ratio: BlockShape(heads * head_dim, ratio * heads * head_dim, head_dim),
    st.integers(1, 24),
    st.sampled_from([16, 64, 128]),
    st.integers(1, 4),
)
precisions = st.sampled_from(["fp8", "fp8-storage", "bf16", "fp32"])
scalings = st.sampled_from(["rowwise", "tensorwise", None])


@settings(deadline=None)
@given(shapes, precisions, scalings, st.sampled_from(["bf16", "fp32"]))
def test_tensors_are_aligned_do_not_overlap_and_end_with_the_buffer(shape, precision, scaling, compute) -> None:
    layout = block_layout(shape, precision, scaling, compute)
    end = 0
    for entry in layout.entries:
        assert entry.offset % ALIGNMENT == 0
        assert end <= entry.offset < end + ALIGNMENT
        end = entry.offset + entry.nbytes
    assert end <= layout.nbytes < end + ALIGNMENT
    assert layout.nbytes % ALIGNMENT == 0
    assert len({entry.name for entry in layout.entries}) == len(layout.entries)


def test_a_block_of_the_full_model_has_its_226_million_parameters() -> None:
    assert sum(spec.outputs * (spec.inputs + 1) for spec in linears(FULL)) == 226_547_712
    layout = block_layout(FULL, "bf16", None, "bf16")
    stored = sum(entry.nbytes for entry in layout.entries)
    assert stored == 2 * (226_547_712 + 4 * 128) + 4, "and the block's number"


@pytest.mark.parametrize(
    ("precision", "scaling", "compute", "megabytes"),
    [
        ("fp8", "rowwise", "bf16", 226.8),
        ("fp8", "tensorwise", "bf16", 226.6),
        ("fp8-storage", "rowwise", "fp32", 226.9),
        ("bf16", None, "bf16", 453.1),
        ("fp32", None, "fp32", 906.2),
    ],
)
def test_bytes_of_a_block_of_the_full_model(precision, scaling, compute, megabytes) -> None:
    architecture = shipped_profiles()["qwen-image-edit-2511"].architecture
    assert block_bytes(architecture, precision, scaling, compute) / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_fp8_without_a_scaling_is_row_wise() -> None:
    layout = block_layout(FULL, "fp8-storage", None, "bf16")
    scales = {entry.name: entry for entry in layout.entries if entry.name.endswith(".scale")}
    assert len(scales) == 8
    assert scales["image.qkv.scale"].shape == (9216,) and scales["image.qkv.scale"].dtype == "fp32"


def test_scales_per_tensor_are_single_numbers() -> None:
    layout = block_layout(FULL, "fp8", "tensorwise", "bf16")
    assert {entry.shape for entry in layout.entries if entry.name.endswith(".scale")} == {(1,)}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_is_not_quantised_has_no_scales(precision) -> None:
    names = [entry.name for entry in block_layout(FULL, precision, None, precision).entries]
    assert not [name for name in names if name.endswith(".scale")]
    assert len(names) == 8 + 8 + 4 + 1

from collections.abc import Collection

import pytest
import torch
from qied_client.errors import ModelUnsupported
from torch import Tensor

from benchmarks.part_runs.dense_source import DenseSource
from qied.engine.block.packed import block_tensors, block_weights, pack_block, stored_shapes
from qied.engine.weights.quantise import E4M3
from qied.engine.weights.sources import TensorSource, WeightReader
from qied.planning.layout.block_layout import BlockLayout, BlockShape, block_layout

SHAPE = BlockShape(inner_dim=64, mlp_dim=256, head_dim=32)
NUMBER = 3
PREFIX = f"transformer_blocks.{NUMBER}"
CPU = torch.device("cpu")
Q, K, V = (f"{PREFIX}.attn.to_{part}" for part in "qkv")


class Invented(DenseSource):
    """One block of random weights, as a benchmark would supply them."""

    component, nbytes = "transformer", 0

    def __init__(self, layout: BlockLayout, dtype: torch.dtype = torch.float32) -> None:
        inner, mlp, head = layout.shape.inner_dim, layout.shape.mlp_dim, layout.shape.head_dim
        generator = torch.Generator().manual_seed(0)
        self.tensors: dict[str, Tensor] = {}
        for name, _ in stored_shapes(layout, NUMBER):
            wide = "net.0" in name
            outputs, inputs = (mlp, inner) if wide else (inner, mlp if "net.2" in name else inner)
            norm = "norm" in name
            shape = (head,) if norm else (outputs, inputs) if name.endswith("weight") else (outputs,)
            self.tensors[name] = torch.randn(shape, generator=generator).to(dtype)

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def origin(self, name: str) -> str:
        return f"memory:{name}"

    def read(self, name: str) -> Tensor:
        return self.tensors[name]


def packed(source: TensorSource, layout: BlockLayout) -> Tensor:
    buffer = torch.zeros(layout.nbytes, dtype=torch.uint8)
    pack_block(WeightReader(0, lambda *_: None), source, NUMBER, layout, buffer, CPU)
    return buffer


@pytest.mark.parametrize("compute", ["bf16", "fp32"])
def test_weights_lie_in_the_buffer_as_the_checkpoint_has_them(compute: str) -> None:
    layout = block_layout(SHAPE, compute, None, compute)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[compute]
    source = Invented(layout)
    block = block_weights(layout, packed(source, layout))
    stored = {name: tensor.to(dtype) for name, tensor in source.tensors.items()}
    assert torch.equal(block.image.qkv.weight, torch.cat([stored[f"{part}.weight"] for part in (Q, K, V)]))
    assert torch.equal(block.image.qkv.bias, torch.cat([stored[f"{part}.bias"] for part in (Q, K, V)]))
    assert torch.equal(block.text.out.weight, stored[f"{PREFIX}.attn.to_add_out.weight"])
    assert torch.equal(block.image.up.weight, stored[f"{PREFIX}.img_mlp.net.0.proj.weight"])
    assert torch.equal(block.text.down.weight, stored[f"{PREFIX}.txt_mlp.net.2.weight"])
    assert torch.equal(block.text.k_norm, stored[f"{PREFIX}.attn.norm_added_k.weight"])
    assert block.image.qkv.scale is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["from-bf16", "from-fp32"])
def test_row_wise_every_output_channel_is_cast_with_its_own_scale(dtype: torch.dtype) -> None:
    layout = block_layout(SHAPE, "fp8", "rowwise", "bf16")
    source = Invented(layout, dtype)
    linear = block_weights(layout, packed(source, layout)).image.qkv
    whole = torch.cat([source.tensors[f"{part}.weight"] for part in (Q, K, V)]).float()
    scale = whole.abs().amax(dim=1) / 448
    assert torch.equal(linear.scale, scale)
    assert torch.equal(linear.weight.float(), (whole / scale.unsqueeze(1)).to(E4M3).float())


def test_per_tensor_the_fused_linear_has_one_scale() -> None:
    layout = block_layout(SHAPE, "fp8", "tensorwise", "bf16")
    source = Invented(layout)
    linear = block_weights(layout, packed(source, layout)).image.qkv
    whole = torch.cat([source.tensors[f"{part}.weight"] for part in (Q, K, V)])
    scale = whole.abs().max().reshape(1) / 448
    assert torch.equal(linear.scale, scale)
    assert torch.equal(linear.weight.float(), (whole / scale).to(E4M3).float())


def test_packing_twice_gives_the_same_bytes() -> None:
    layout = block_layout(SHAPE, "fp8", "rowwise", "bf16")
    assert torch.equal(packed(Invented(layout), layout), packed(Invented(layout), layout))


def test_every_byte_that_is_read_belongs_to_one_tensor() -> None:
    layout = block_layout(SHAPE, "fp8", "rowwise", "bf16")
    buffer = torch.zeros(layout.nbytes, dtype=torch.uint8)
    for tensor in block_tensors(layout, buffer).values():
        tensor.view(torch.uint8).add_(1)
    assert buffer.max() == 1
    assert int(buffer.sum()) == sum(entry.nbytes for entry in layout.entries)


def test_a_tensor_of_another_shape_is_refused_with_its_origin() -> None:
    layout = block_layout(SHAPE, "bf16", None, "bf16")
    source = Invented(layout)
    source.tensors[f"{K}.weight"] = torch.zeros(64, 63)
    with pytest.raises(ModelUnsupported, match=r"memory:.*to_k.weight is \(64, 63\) and should be \(64, 64\)"):
        packed(source, layout)


def test_changing_a_source_later_changes_no_block() -> None:
    layout = block_layout(SHAPE, "fp32", None, "fp32")
    source = Invented(layout)
    buffer = packed(source, layout)
    before = buffer.clone()
    for tensor in source.tensors.values():
        tensor.zero_()
    assert torch.equal(buffer, before)

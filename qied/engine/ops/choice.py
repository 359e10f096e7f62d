"""Which implementation of the operations a device gets, and whether blocks are recorded as graphs there."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import structlog
import torch

from qied.engine.block.graphs import BlockGraphs, Direct, GraphRecorder, Runner
from qied.engine.ops.attention import Attention
from qied.engine.ops.cudnn_attention import kernel_of
from qied.engine.ops.fp8_attention import Fp8Attention, Fp8AttentionOfAnyRows, Fp8AttentionUnavailable
from qied.engine.ops.linear import ExpandedLinear, Int8LinearByTorch, LinearKind, linear_kind
from qied.engine.ops.operations import Operations
from qied.engine.ops.proof import disproof
from qied.engine.ops.torch_operations import TorchOperations
from qied.planning.layout.block_layout import BlockShape
from qied.planning.layout.forward_layout import TransformerShape
from qied.planning.plan import FP8_ATTENTION, Execution

TRITON_CAPABILITY = (7, 5)
"""The first compute capability for which Triton compiles."""


INT8_CAPABILITY = (8, 0)
"""The first compute capability on whose tensor cores Triton multiplies INT8."""


@runtime_checkable
class CompiledLinears(Protocol):
    """Linears whose kernels are compiled for each shape."""

    def compile_for(self, shape: BlockShape, dtype: torch.dtype, device: torch.device) -> None:
        """Compile what the blocks of a model need."""


@dataclass(frozen=True)
class Executor:
    """The operations of blocks, and the runner of their launches."""

    operations: Operations
    runner: Runner


def choose_executor(execution: Execution, shape: TransformerShape, device: torch.device) -> Executor:
    """Fused kernels and graphs where Triton runs and is proven to be right, torch's own kernels elsewhere."""
    in_int8 = execution.precision == "int8"
    linears = int8_linears(device) if in_int8 else linear_kind(execution.precision, execution.scaling, device)
    attention = Attention([name for name in execution.attention if name != FP8_ATTENTION])
    in_fp8 = _fp8_attention(device, attention) if execution.fp8_attention else None
    plain = Executor(TorchOperations(linears, attention, in_fp8), Direct())
    # FP32 is for cards without BF16, on which products in FP32 take longer than all that could be fused.
    if (execution.compute != "bf16" and not in_int8) or not has_triton(device):
        return plain
    fused = fused_operations(linears, attention, in_fp8)
    reason = disproof(fused, plain.operations, shape, device)
    if reason is not None:
        structlog.get_logger(part="operations").warning(
            "fused kernels do not work here, using torch's slower ones", reason=reason
        )
        return plain
    if isinstance(linears, CompiledLinears):
        linears.compile_for(shape.block, torch.bfloat16 if execution.compute == "bf16" else torch.float32, device)
    graphs = BlockGraphs(GraphRecorder(device))
    return Executor(fused, Direct() if isinstance(linears, Int8LinearByTorch) else graphs)


def int8_linears(device: torch.device) -> LinearKind:
    """Triton's product with all in its epilogue where there is one; by torch on other cards, simulated on the CPU."""
    if _capability(device) >= INT8_CAPABILITY and has_triton(device):
        from qied.engine.ops.int8_linear import Int8Linear

        return Int8Linear(_capability(device), torch.cuda.get_device_properties(device).multi_processor_count)
    return linear_kind("int8", None, device)


def has_triton(device: torch.device) -> bool:
    """Whether Triton is installed, which it is not on every system, and supports the device."""
    return _capability(device) >= TRITON_CAPABILITY and importlib.util.find_spec("triton") is not None


def _capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a card; (0, 0) is none."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def _fp8_attention(device: torch.device, attention: Attention) -> Fp8Attention | None:
    """None where cuDNN's frontend, which was there when it was planned, has gone."""
    try:
        return Fp8AttentionOfAnyRows(kernel_of(device), attention)
    except Fp8AttentionUnavailable as error:
        structlog.get_logger(part="operations").warning(
            "FP8 attention is not available, using 16 bits", reason=str(error)
        )
        return None


def fused_operations(linears: LinearKind, attention: Attention, in_fp8: Fp8Attention | None) -> Operations:
    """The fused kernels around these linears and attentions; Triton is imported here and nowhere before."""
    from qied.engine.ops.triton_operations import TensorwiseOperations, TritonOperations, expand

    if isinstance(linears, ExpandedLinear):
        linears = ExpandedLinear(expand)
    kind = TensorwiseOperations if linears.form == "tensorwise" else TritonOperations
    return kind(linears, attention, in_fp8)

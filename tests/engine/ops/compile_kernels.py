"""Compiles every kernel of the fused operations for kinds of cards, which need not be there; nothing runs.

``python -m tests.engine.ops.compile_kernels 86 90`` prints the assembly of each kernel as JSON:
{capability: {name: [PTX, ...]}}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from qied.engine.ops.attention import Attention
from qied.engine.ops.choice import INT8_CAPABILITY, fused_operations
from qied.engine.ops.int8_linear import Int8Linear
from qied.engine.ops.linear import FP8_CAPABILITY, linear_kind
from qied.engine.ops.proof import run_all
from qied.planning.layout.block_layout import BlockShape
from qied.planning.layout.forward_layout import TransformerShape

CPU = torch.device("cpu")
PROCESSORS = 100
SHAPE = BlockShape(3072, 12288, 128)
"""As served: narrower rows would give a thread one number, and no arithmetic of pairs."""
ANYWHERE = (("bf16", None, False), ("fp8-storage", None, False), ("int8", None, False))
FOR_TURING = (("int8", None, False),)
WITH_FP8_CORES = (
    ("fp8", "rowwise", False),
    ("fp8", "tensorwise", False),
    ("fp8", "rowwise", True),
    ("int8", None, True),
)
"""Precision, scaling, and whether the attention is in FP8."""


class Absent:
    """What Triton asks a driver for, of a card that is not there."""

    def __init__(self, capability: int) -> None:
        self._capability = capability
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        # Triton keeps what it compiled by the number of the device.
        return self._capability

    def get_current_stream(self, device: int) -> int:
        return device


def compile_for(capability: int) -> None:
    """Compile everything that a card of this capability runs."""
    driver.set_active(Absent(capability))
    compute = "bf16" if divmod(capability, 10) >= (8, 0) else "fp32"
    has_fp8_cores = divmod(capability, 10) >= FP8_CAPABILITY
    runs = FOR_TURING if compute == "fp32" else ANYWHERE + (WITH_FP8_CORES if has_fp8_cores else ())
    for precision, scaling, fp8_attention in runs:
        in_triton = precision == "int8" and divmod(capability, 10) >= INT8_CAPABILITY
        linears = Int8Linear(divmod(capability, 10), PROCESSORS) if in_triton else linear_kind(precision, scaling, CPU)
        operations = fused_operations(linears, Attention(), None)
        run_all(operations, TransformerShape(SHAPE, 3, precision, compute, fp8_attention), CPU)
    if divmod(capability, 10) >= INT8_CAPABILITY:
        Int8Linear(divmod(capability, 10), PROCESSORS).compile_for(SHAPE, torch.bfloat16, CPU)


def main(capabilities: list[int]) -> None:
    every: dict[int, dict[str, list[str]]] = {}
    run = JITFunction.run

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        every[kernel.metadata.target.arch].setdefault(self.fn.__name__, []).append(kernel.asm["ptx"])
        return kernel

    JITFunction.run = compiled
    for capability in capabilities:
        every[capability] = {}
        compile_for(capability)
    print(json.dumps(every))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])

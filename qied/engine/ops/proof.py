"""The check that fused kernels agree with torch's own here: both run on a few rows before anything is served."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qied.engine.block.arena import Arena, make_arena
from qied.engine.block.packed import BlockWeights, PackedLinear, StreamWeights
from qied.engine.ops.operations import Activation, JointRows, Operations, StreamLinear
from qied.engine.weights.quantise import quantise, rotate_to_int8
from qied.planning.layout.forward_layout import Tokens, TransformerShape, arena_layout

TOKENS = Tokens(text=5, target=7, reference=4)
"""Few rows, of every kind, and no multiple of anything."""
LIMIT = 0.02
"""Relative error, in E4M3 too: a last digit that is rounded otherwise is rare."""
_LAYERS, _BLOCK = 3, 1
_OUTPUTS = 48


def disproof(fused: Operations, plain: Operations, shape: TransformerShape, device: torch.device) -> str | None:
    """Say what is wrong with ``fused`` kernels at a model's widths, None where nothing is.

    Compiles what it runs, which a first step would do otherwise; takes seconds where nothing is kept of an earlier run.
    """
    small = replace(shape, layers=_LAYERS)
    try:
        found, expected = (run_all(operations, small, device) for operations in (fused, plain))
    except Exception as error:  # noqa: BLE001 (compilers fail in many ways, and each means the same here)
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    for name, value in expected.items():
        error_of = float((found[name] - value).norm() / value.norm())
        if not error_of <= LIMIT:
            return f"{name}: relative error {error_of:.3g} against torch's own kernels, at most {LIMIT:g} is allowed"
    return None


@torch.inference_mode()
def run_all(operations: Operations, shape: TransformerShape, device: torch.device) -> dict[str, Tensor]:
    """Run each operation once; returns what it makes of the same random rows, FP32, by its name."""
    arena = make_arena(arena_layout(shape, (TOKENS,)), (TOKENS,), device)
    generator = torch.Generator().manual_seed(5)
    _fill(arena, generator)
    (region,), workspace = arena.regions, arena.workspace
    number = torch.tensor([_BLOCK], dtype=torch.int32, device=device)
    weights = _weights(shape, number, generator)
    normed = _whole(operations.norm(region, workspace, _BLOCK, number, "mlp"))
    qkv = _drawn(generator, workspace.qkv)
    operations.heads(qkv, region, weights)
    heads = qkv.float()
    wide = _drawn(generator, workspace.wide[: TOKENS.all])
    activated = _whole(operations.activate(wide, TOKENS.text, workspace))
    attended = _drawn(generator, torch.empty_like(region.residual))
    made = operations.prepare(attended, TOKENS.text, workspace)
    prepared = _whole(made)
    found = {
        "sum": region.residual.float(),
        "norm": normed,
        "heads": heads,
        "activation": activated,
        "attention's result": prepared,
    }
    if shape.precision in ("fp8-storage", "int8"):
        side, out = StreamLinear(_linear(shape, device, generator)), attended.new_empty(TOKENS.all, _OUTPUTS)
        operations.linear(made, side, side, out, workspace)
        found["linear"] = out.float()
    if workspace.heads is not None and workspace.attention_scales is not None:
        operations.quantised_heads(_drawn(generator, qkv), region, weights, workspace)
        steps = workspace.attention_scales[:3, :1]
        found["heads in FP8"] = workspace.heads.float().view(TOKENS.all, 3, -1) * steps
    return found


def _fill(arena: Arena, generator: torch.Generator) -> None:
    (region,) = arena.regions
    for tensor in (region.residual, region.update, region.modulation, region.rotation):
        _drawn(generator, tensor)


def _drawn(generator: torch.Generator, tensor: Tensor) -> Tensor:
    """Fill a tensor with random numbers, the same ones on every device."""
    return tensor.copy_(torch.randn(tensor.shape, generator=generator))


def _weights(shape: TransformerShape, number: Tensor, generator: torch.Generator) -> BlockWeights:
    """A block of which only the norms of the heads are there."""
    nothing = PackedLinear(number, number, None)
    dtype = torch.bfloat16 if shape.compute == "bf16" else torch.float32

    def stream() -> StreamWeights:
        norms = [
            _drawn(generator, torch.empty(shape.block.head_dim, dtype=dtype, device=number.device)) for _ in range(2)
        ]
        return StreamWeights(nothing, nothing, nothing, nothing, *norms)

    return BlockWeights(stream(), stream(), number)


def _linear(shape: TransformerShape, device: torch.device, generator: torch.Generator) -> PackedLinear:
    """A linear whose weights are quantised with a scale for each row."""
    weight = torch.randn(_OUTPUTS, shape.block.inner_dim, generator=generator).to(device)
    in_int8 = shape.precision == "int8"
    quantised = rotate_to_int8(weight, shape.block.rotation_group) if in_int8 else quantise(weight, "rowwise")
    dtype = torch.bfloat16 if shape.compute == "bf16" else torch.float32
    bias = _drawn(generator, torch.empty(_OUTPUTS, dtype=dtype, device=device))
    return PackedLinear(quantised.values, bias, quantised.scale.flatten())


def _whole(made: JointRows) -> Tensor:
    """The values of both streams as numbers, FP32."""
    return torch.cat([_numbers(part) for part in (made.text, made.image) if part is not None])


def _numbers(part: Activation) -> Tensor:
    if part.plain is not None or part.scale is None:
        return (part.values if part.plain is None else part.plain).float()
    return part.values.float() * part.scale.unsqueeze(1)

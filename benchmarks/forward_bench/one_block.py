"""What one block adds to the target's stream, against the same block in FP32.

The update is what the block adds: its error says more than that of the stream, most of which passes the block by.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from forward_bench.lively import GATE, LARGE_GATE, OneBlock, in_fp8, in_int8
from forward_bench.models import Inputs, Precision, diffusers_a_block_at_a_time, diffusers_call, forwards, inputs, ours
from forward_bench.setting import NATIVE, SIZES, Setting

_ROUNDED = {"fp8": in_fp8, "int8": in_int8}
_EPSILON = 1e-6
"""Of the last norm."""


def block_errors(setting: Setting, precision: Precision) -> dict[str, float]:
    """Relative errors of the target's ``update`` and of its stream after it, ``output``, over some channels.

    ``same_weights`` compares with FP32 on the weights as they are computed with, which FP8 and INT8 have quantised,
    ``original_weights`` with FP32 on those of the source. The update is measured with gates that make it as large as
    the stream, the stream with those of usual size.
    """
    single = replace(setting, architecture=tuple({**setting.config, "num_layers": 1}.items()))
    found: dict[str, float] = {}
    for quantity, gate in (("update", LARGE_GATE), ("output", GATE)):
        original = OneBlock(single, gate)
        same = OneBlock(single, gate, _ROUNDED.get(precision.removesuffix("-attention")))
        for name, weights in (("same_weights", same), ("original_weights", original)):
            errors = _errors(single, precision, original, weights)
            found[f"{quantity}_{name}"] = errors[quantity]
            found[f"update_over_stream_at_gate_{gate:g}"] = errors["update_over_stream"]
    return found


def _errors(setting: Setting, precision: Precision, original: OneBlock, weights: OneBlock) -> dict[str, float]:
    """Compare the executor on ``original`` with FP32 on ``weights``."""
    given = inputs(setting, next(size for size in SIZES if str(size) == NATIVE))
    transformer = ours(setting, precision, weights=original)
    (shown,) = transformer.velocities([forwards(transformer, given)[0]])
    before, after = _in_fp32(setting, weights, given)
    channels = slice(shown.shape[-1])
    # The norm in between is taken back with the reference's numbers: those of the executor differ by far less than
    # the update does.
    executed = shown[0] * _deviation(after) + after.mean(dim=-1, keepdim=True)
    truth = (after - before)[:, channels]
    return {
        "update": _relative(executed - before[:, channels], truth),
        "output": _relative(executed, after[:, channels]),
        "update_over_stream": float(truth.norm() / before[:, channels].norm()),
    }


def _in_fp32(setting: Setting, weights: OneBlock, given: Inputs) -> tuple[Tensor, Tensor]:
    """The target's stream [tokens, D] before the block and after it, by diffusers in FP32."""
    model = diffusers_a_block_at_a_time(setting, weights, torch.float32)
    seen: dict[str, Tensor] = {}
    model.img_in.register_forward_hook(lambda _module, _inputs, output: seen.update(before=output))
    model.norm_out.register_forward_pre_hook(lambda _module, inputs: seen.update(after=inputs[0]))
    diffusers_call(model, given, 0, torch.float32)
    target = given.latents[0].shape[1]
    return seen["before"][0, :target], seen["after"][0, :target]


def _deviation(stream: Tensor) -> Tensor:
    """What the norm divides each token [tokens, D] by."""
    return torch.sqrt(stream.var(dim=-1, keepdim=True, correction=0) + _EPSILON)


def _relative(found: Tensor, reference: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - reference) / torch.linalg.vector_norm(reference))

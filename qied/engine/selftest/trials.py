"""The suites of trials: those of a card, and the same kernels in small on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qied.engine.selftest.attention import AttentionShape, AttentionTrials
from qied.engine.selftest.child import Rate, Suite
from qied.engine.selftest.matmul import MatmulTrials, Shape
from qied.engine.selftest.measure import clock_of, median_seconds
from qied.hardware.snapshot import Trial

_BYTES = 64 * 1024**2


def host_to_device(device: torch.device) -> Rate:
    """Copy a pinned buffer to the card; the link wakes up in the runs before the measured ones."""
    source = torch.empty(_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(_BYTES, dtype=torch.uint8, device=device)
    (seconds,) = median_seconds(clock_of(device), lambda: target.copy_(source, non_blocking=True))
    return Rate(int(_BYTES / seconds))


CARD_SHAPE = Shape(tokens=4096, inner=3072, outer=3072)
"""A projection of the transformer for a picture of a megapixel: large enough that its time says something."""
CARD_CHECKED = tuple(
    Shape(tokens, inner, outer=3072)
    for tokens in (4096, 250, 5)
    for inner in (3072, 12288)
    if (tokens, inner) != (4096, 3072)
)
"""The projections of a picture, of a text and of a few tokens, and what follows the MLP's width."""
CARD_ATTENTION = AttentionShape(heads=24, tokens=2085, timed_tokens=8277)
CPU_SHAPE = Shape(tokens=64, inner=128, outer=96)
CPU_CHECKED = (Shape(tokens=5, inner=128, outer=96), Shape(tokens=50, inner=512, outer=96))
CPU_ATTENTION = AttentionShape(heads=2, tokens=77, timed_tokens=77)


def card() -> Suite:
    """All trials on the card that this process sees first; raises RuntimeError where torch cannot use it."""
    device = torch.device("cuda", 0)
    torch.ones(1, device=device)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    compute = torch.bfloat16 if native else torch.float32
    trials = _trials(device, (CARD_SHAPE, *CARD_CHECKED), CARD_ATTENTION, compute)
    return Suite({**trials, "host_to_device": lambda: host_to_device(device)}, _card_answers)


def cpu() -> Suite:
    """The same kernels on the CPU, where nothing is asked of their speed."""
    return Suite(_trials(torch.device("cpu"), (CPU_SHAPE, *CPU_CHECKED), CPU_ATTENTION, torch.bfloat16))


def _trials(
    device: torch.device, shapes: tuple[Shape, ...], attention: AttentionShape, compute: torch.dtype
) -> dict[str, Callable[[], Trial | Rate]]:
    clock = clock_of(device)
    products = MatmulTrials(device, shapes[0], compute, clock, shapes[1:])
    attentions = AttentionTrials(device, attention, compute, clock).trials()
    return {
        "bf16": products.bf16,
        "fp8_rowwise": products.fp8_rowwise,
        "fp8_tensorwise": products.fp8_tensorwise,
        "fp8_storage": products.fp8_storage,
        "int8": products.int8,
        **{f"attention.{name}": trial for name, trial in attentions.items()},
    }


def _card_answers() -> bool:
    """A kernel that went wrong in the driver leaves every later call of this process with its error."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True

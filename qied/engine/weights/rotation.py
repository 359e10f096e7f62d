"""The rotation that makes INT8 accurate: groups of neighbouring inputs are mixed, so that no single one is large.

ConvRot (arXiv 2512.03673) multiplies each group of 4^n inputs by the n-fold Kronecker product of H / 2, where
H = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]. H / 2 is J / 2 - P, with J all ones and P the order
reversed. Here it is done without P: x -> sum / 2 - x along each of the n axes. Both are symmetric and their own
inverse, and they differ by the reversed order of the group, which a weight takes once, when it is packed.
"""

from __future__ import annotations

from torch import Tensor


def rotate(x: Tensor, group: int) -> Tensor:
    """Rotate FP32 [..., inputs] in groups of ``group``, a power of 4 that divides the inputs; 1 leaves all as it is.

    Weights and activations that are both rotated give the same products; rotating twice gives back what was there.
    """
    shape = x.shape
    stride = 1
    while stride < group:
        parts = x.reshape(-1, 4, stride)
        x = parts.sum(1, keepdim=True).mul_(0.5).sub(parts)
        stride *= 4
    return x.reshape(shape)


def reversed_groups(x: Tensor, group: int) -> Tensor:
    """[..., inputs] with the order in each group reversed: from a ConvRot file's rotation to ours, and back."""
    return x.view(*x.shape[:-1], -1, group).flip(-1).view(x.shape)

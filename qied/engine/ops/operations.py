"""What a block asks of its operations; ``torch_operations`` defines them, ``triton_operations`` makes them fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from qied.engine.block.arena import Region, Workspace
from qied.engine.block.packed import BlockWeights, PackedLinear
from qied.engine.ops.low_rank import Scaled
from qied.planning.layout.forward_layout import scale_begin

if TYPE_CHECKING:
    from qied.engine.ops.fp8_attention import Fp8Attention

NormPlace = Literal["attention", "mlp", "out"]
"""Which norm: that before the attention, that before the MLP, or the one behind the last block."""
NORM_EPSILON = 1e-6
SHIFT: dict[NormPlace, int] = {"attention": 0, "mlp": 3, "out": 0}
"""Row of a block's modulation that has the shift of each norm; the scale is the row behind it."""
ATTENTION_GATE, MLP_GATE = 2, 5
"""Rows of a block's modulation that have the gates."""


@dataclass(frozen=True)
class Activation:
    """The input of a linear [rows, inputs]: ``values`` of the compute type, or E4M3 that ``scale`` makes whole.

    ``scale`` is FP32 [rows]; per tensor, its first element is that of all rows. ``plain`` has the compute type's values
    wherever those are there, which they are if a caller asked to ``keep`` them.
    """

    values: Tensor
    scale: Tensor | None = None
    plain: Tensor | None = None

    def rows(self, start: int, stop: int) -> Activation:
        """Some of the rows."""
        part = slice(start, stop)
        scale, plain = (None if whole is None else whole[part] for whole in (self.scale, self.plain))
        return Activation(self.values[part], scale, plain)


@dataclass(frozen=True)
class JointRows:
    """An activation of text and image rows, which meet different weights; either may be missing."""

    text: Activation | None
    image: Activation | None

    def rows(self, start: int, stop: int) -> JointRows:
        """The rows from ``start`` to ``stop``, counted through both."""
        text_rows = 0 if self.text is None else len(self.text.values)
        text = self.text.rows(start, min(stop, text_rows)) if self.text and start < text_rows else None
        image = (
            self.image.rows(max(start - text_rows, 0), stop - text_rows) if self.image and stop > text_rows else None
        )
        return JointRows(text, image)

    def without_plain(self) -> JointRows:
        """The same, where the compute type's values are not there."""
        text, image = (None if part is None else replace(part, plain=None) for part in (self.text, self.image))
        return JointRows(text, image)


@dataclass(frozen=True)
class StreamLinear:
    """One stream's part of a linear: its weights, and the branches next to them."""

    weights: PackedLinear
    branches: Sequence[Scaled] = ()


class Operations(Protocol):
    """The operations of a block on rows of the joint sequence, text first; results go to an arena's memory.

    D is the width of the residual streams, F that of the MLP. With ``keep``, the input of a linear is there in the
    compute type as well. Nothing here waits for the device, or allocates more than a few megabytes, but ``attention``.

    Where inputs of linears are of the compute type, each step of a norm is rounded to it as diffusers' modules do, so
    that in BF16 an edit differs from diffusers' no more than that does from itself with other kernels. Where they are
    quantised row by row, norms stay in FP32 all the way: no other implementation defines such results.
    """

    def norm(
        self, region: Region, workspace: Workspace, block: int, number: Tensor, half: NormPlace, *, keep: bool = False
    ) -> JointRows:
        """Add the update that is due to the residual streams, layer-normalise them, and modulate: a linear's input.

        Before the attention that update is the MLP's of the block before, in the first block none; before the MLP it is
        the attention's of this block. The sum is rounded to the compute type, and what is normed is the rounded sum.
        ``block`` counts from 0, ``number`` (int32 [1]) says the same on the device.

        "out" is the norm behind the last block: with ``block`` the number of blocks, of the target's rows only, never
        quantised. In the last block as well, "mlp" has the target's rows only.
        """

    def heads(self, qkv: Tensor, region: Region, weights: BlockWeights) -> None:
        """RMS-normalise and rotate queries and keys of [rows, 3D] in place."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return [queries, heads * d] from q [queries, heads, d] and k, v [keys, heads, d]."""

    def quantised_heads(self, qkv: Tensor, region: Region, weights: BlockWeights, workspace: Workspace) -> None:
        """Like ``heads``, to the workspace's ``heads`` in E4M3, and the values with them; scales also go there."""

    @property
    def fp8_attention(self) -> Fp8Attention | None:
        """The FP8 attention of quantised heads, used in place of ``attention``, or None."""

    def prepare(self, attended: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        """Make the attention's result [rows, D], the first ``text_rows`` of them text, the input of a linear.

        The result of ``fp8_attention`` lies in the workspace's ``quantised`` already, and QKV, which is not read any
        more, makes room for what is kept.
        """

    def activate(self, wide: Tensor, text_rows: int, workspace: Workspace, *, keep: bool = False) -> JointRows:
        """Put [rows, F], which are overwritten, through the GELU (tanh) in FP32: the input of a linear."""

    def linear(self, x: JointRows, text: StreamLinear, image: StreamLinear, out: Tensor, workspace: Workspace) -> None:
        """Write to ``out`` [rows, outputs] what the linears of both streams make of ``x``, with their branches."""


def norm_rows(region: Region, block: int, half: NormPlace) -> tuple[int, int]:
    """First row of a norm, and the one behind its last: behind the last attention only the target's rows are read."""
    tokens = region.tokens
    if half == "attention" or (half == "mlp" and block < region.layers - 1):
        return 0, tokens.all
    return tokens.text, tokens.text + tokens.target


def joint(values: Tensor, scale: Tensor | None, text_rows: int, plain: Tensor | None) -> JointRows:
    """Cut rows behind the first ``text_rows``; the image's scales begin at the next place that kernels can read."""
    begin = scale_begin(text_rows)
    parts = []
    for rows, first in ((slice(0, text_rows), 0), (slice(text_rows, None), begin)):
        part = values[rows]
        scales = None if scale is None else scale[first : first + len(part)]
        parts.append(Activation(part, scales, None if plain is None else plain[rows]))
    return JointRows(parts[0] if text_rows else None, parts[1] if len(values) > text_rows else None)

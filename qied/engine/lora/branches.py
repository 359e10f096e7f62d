"""The branches of an edit's LoRAs, by the linear to which each belongs."""

from __future__ import annotations

from dataclasses import dataclass

from qied.engine.ops.low_rank import Scaled


@dataclass(frozen=True)
class StreamLoras:
    """The branches added to the linears of one stream (image or text) of a block."""

    qkv: tuple[Scaled, ...] = ()
    out: tuple[Scaled, ...] = ()
    up: tuple[Scaled, ...] = ()
    down: tuple[Scaled, ...] = ()


@dataclass(frozen=True)
class BlockLoras:
    """The branches added to the linears of a block."""

    image: StreamLoras = StreamLoras()
    text: StreamLoras = StreamLoras()

    @property
    def width(self) -> int:
        """Values of a token between the two matrices of a branch, at most."""
        return max((scaled.branch.width for side in self._sides for scaled in side), default=0)

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that a CUDA graph of these branches depends on."""
        return tuple(tuple(scaled.key for scaled in side) for side in self._sides)

    @property
    def _sides(self) -> tuple[tuple[Scaled, ...], ...]:
        streams = (self.image, self.text)
        return tuple(side for stream in streams for side in (stream.qkv, stream.out, stream.up, stream.down))


NO_LORAS = BlockLoras()


@dataclass(frozen=True)
class AroundLoras:
    """The branches added to the linears around the blocks, through which tokens enter and leave."""

    img_in: tuple[Scaled, ...] = ()
    txt_in: tuple[Scaled, ...] = ()
    proj_out: tuple[Scaled, ...] = ()


NOTHING_AROUND = AroundLoras()

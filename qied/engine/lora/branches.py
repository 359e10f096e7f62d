"""The branches of an edit's LoRAs, by the linear that each stands beside."""

from __future__ import annotations

from dataclasses import dataclass

from qied.engine.ops.low_rank import Scaled


@dataclass(frozen=True)
class StreamLoras:
    """What is added to the linears of one stream (image or text) of a block."""

    qkv: tuple[Scaled, ...] = ()
    out: tuple[Scaled, ...] = ()
    up: tuple[Scaled, ...] = ()
    down: tuple[Scaled, ...] = ()


@dataclass(frozen=True)
class BlockLoras:
    """What is added to the linears of a block."""

    image: StreamLoras = StreamLoras()
    text: StreamLoras = StreamLoras()


NO_LORAS = BlockLoras()

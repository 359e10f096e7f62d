"""The transformer in a second precision: blocks of its own next to those of the first, everything else shared."""

from __future__ import annotations

import torch

from qied.engine.transformer.transformer import Transformer, load_blocks
from qied.engine.weights.sources import TensorSource, WeightReader
from qied.planning.plan import Execution


def load_second(
    first: Transformer, source: TensorSource, execution: Execution, device: torch.device, reader: WeightReader
) -> Transformer:
    """Load the blocks of ``source`` once more, as ``execution.second`` says; they give what a worker of it gives.

    Embedders and modulation are of the compute type, whatever the blocks are. Raises ModelUnsupported.
    """
    start = reader.done
    layout = first.layout_of(execution.of_second)
    blocks = load_blocks(source, layout, execution.of_second, device, reader, begun=start)
    reader.finish(source, start)
    return first.with_blocks(blocks, execution.of_second)

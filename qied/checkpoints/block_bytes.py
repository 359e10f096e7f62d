"""How many bytes the blocks of a transformer have in its own files, for plans that stream them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qied.checkpoints.part_file import read_part
from qied.planning.block_layout import ALIGNMENT, NORMS, BlockShape, linears
from qied.planning.model_profile import Architecture
from qied.weights.problems import BadFile


def stored_block_bytes(files: Sequence[Path], facts: Architecture) -> int:
    """Bytes of the largest block, laid out one aligned tensor after the other; 0 unless all files are GGUF."""
    shape = BlockShape(facts.inner_dim, facts.mlp_dim, facts.head_dim)
    modules = [module for linear in linears(shape) for module in linear.modules]
    names = [f"{module}.{part}" for module in modules for part in ("weight", "bias")]
    names += [norm.parameter for norm in NORMS]
    try:
        parts = [read_part(file, "transformer") for file in files]
    except BadFile:
        return 0
    if any(part.header.format != "gguf" for part in parts):
        return 0
    sizes = {name: tensor.entry.nbytes for part in parts for name, tensor in part.tensors.items()}
    blocks = ([sizes.get(f"transformer_blocks.{block}.{name}", 0) for name in names] for block in range(facts.layers))
    return max((sum(-(-size // ALIGNMENT) * ALIGNMENT for size in block) for block in blocks), default=0)

"""What weights take of host memory where they stream from it: as their own files have them, or copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Final

from qied.checkpoints.names import TEXT_STACKS, is_streamed_text
from qied.checkpoints.part_file import PartFile, read_part
from qied.planning.layout.block_layout import ALIGNMENT, NORMS, BlockShape, linears
from qied.planning.profiles.model_profile import Architecture
from qied.weights.problems import BadFile
from qied.weights.stored import Precision, Stored

Matrices = dict[str, tuple[int, ...]]
"""Shapes by the name below a layer, such as "mlp.up_proj.weight"."""
_ITEM_BYTES: Final[Mapping[Precision, int]] = {"bf16": 2, "fp16": 2, "fp32": 4}
_MAPPED_ITEM_BYTES: Final = 2


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


def copied_text_weights(files: Iterable[Path], *, quantised: bool) -> int:
    """How many weights of a streamed text encoder are copied into host memory, where all others stay mapped.

    Those are weights of more than 16 bits, pieces that have to be joined, and what does not lie in the file as its type
    would. With ``quantised``, the matrices of its layers are mapped from another file. 0 for files that cannot be used.
    """
    try:
        parts = [read_part(file, "text_encoder") for file in files]
    except BadFile:
        return 0
    tensors = {name: (one, part) for part in parts for name, one in part.tensors.items() if is_streamed_text(name)}
    elsewhere: set[str] = set()
    if quantised:
        shapes = {name: one.entry.shape if one.precision in _ITEM_BYTES else None for name, (one, _) in tensors.items()}
        for stack in TEXT_STACKS:
            layers = matrices_of_layers(stack, shapes)
            elsewhere.update(f"{stack}{number}.{name}" for number, names in enumerate(layers) for name in names)
    copied = (one for name, (one, part) in tensors.items() if name not in elsewhere and _is_copied(one, part))
    return sum(prod(one.entry.shape) for one in copied)


def matrices_of_layers(stack: str, shapes: Mapping[str, tuple[int, ...] | None]) -> list[Matrices]:
    """Of each layer of a stack, the matrices that every layer has; ``shapes`` by name, None for those left out."""
    found: dict[int, Matrices] = defaultdict(dict)
    for name, shape in shapes.items():
        number, _, below = name.removeprefix(stack).partition(".")
        if name.startswith(stack) and number.isdecimal():
            found[int(number)] |= {below: shape} if shape is not None and len(shape) == 2 else {}
    common = set.intersection(*(set(each.items()) for each in found.values())) if found else set()
    return [dict(sorted(common)) for _ in found] if common else []


def _is_copied(stored: Stored, part: PartFile) -> bool:
    item = _ITEM_BYTES.get(stored.precision)
    if stored.pieces or item is None:
        return bool(stored.pieces)
    return item > _MAPPED_ITEM_BYTES or (part.header.data_start + stored.entry.begin) % item != 0

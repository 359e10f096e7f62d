"""What a LoRA file holds for a model, from its header: the pairs of matrices beside the model's linears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qied.loras.keys import MODULATION, parse_key
from qied.loras.lightning import lightning_steps, named_version
from qied.loras.problems import GET_ANOTHER, OTHER_MODEL, unusable
from qied.loras.scales import StoredScales, scales_beside, stored_scales
from qied.planning.block_layout import BlockShape, linears
from qied.planning.model_profile import Architecture
from qied.weights.header import Header, read_header
from qied.weights.problems import GET_ANOTHER as AGAIN
from qied.weights.problems import BadFile

_MODULATION_ROWS = 6
"""Outputs of a modulation linear for each of its inputs: shift, scale and gate of attention and MLP."""
_FLOATS = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"))
"""Types that a LoRA may be stored in."""
_LETTERS = {"down": "A (down)", "up": "B (up)"}
_INPUT_OF = {module: linear.name for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules}


@dataclass(frozen=True)
class Pair:
    """The matrices beside one linear: ``down`` [rank, inputs] and ``up`` [outputs, rank], by their names in the file.

    Their product counts times alpha / rank, where ``alpha`` names a tensor; without one, times ``scale``.
    """

    block: int
    module: str
    rank: int
    outputs: int
    inputs: int
    down: str
    up: str
    alpha: str | None
    scale: float

    @property
    def parameters(self) -> int:
        """Numbers in both matrices."""
        return self.rank * (self.outputs + self.inputs)


@dataclass(frozen=True)
class LoraContents:
    """The pairs of a file: ``linears`` beside the linears of blocks, ``modulation`` beside those of the modulation.

    ``steps`` is the number of steps of a Lightning LoRA, None for any other; ``version`` that of the model it names.
    """

    linears: tuple[Pair, ...]
    modulation: tuple[Pair, ...]
    steps: int | None
    version: str | None = None

    @property
    def parameters(self) -> int:
        """Numbers that are on the device while an edit uses the LoRA: those of the modulation only pass through."""
        return sum(pair.parameters for pair in self.linears)

    @property
    def width(self) -> int:
        """Most values of a token between the two matrices, over the linears of a block that share their input."""
        sums: dict[tuple[int, str], int] = {}
        for pair in self.linears:
            key = (pair.block, _INPUT_OF[pair.module])
            sums[key] = sums.get(key, 0) + pair.rank
        return max(sums.values(), default=0)


def read_contents(path: Path, file: str, architecture: Architecture, neighbours: Path | None = None) -> LoraContents:
    """Read what a file holds for a model; raises ModelUnsupported that names ``file``, the tensor and what to do.

    ``neighbours`` is the folder of what belongs to it, if that is not the folder that it lies in.
    """
    header = _header(path, file)
    grouped = _grouped(header, file)
    if not grouped:
        raise unusable(file, "it holds no tensors", OTHER_MODEL)
    scales = stored_scales(header.metadata, file)
    if scales == StoredScales() and _is_of_peft(header) and not any("alpha" in names for names in grouped.values()):
        scales = scales_beside(neighbours or path.parent, file)
    shapes = _shapes(architecture)
    pairs = []
    for (block, module), names in sorted(grouped.items()):
        if block >= architecture.layers:
            name = next(iter(names.values()))
            raise unusable(file, f"{name} is of block {block}, and the model has {architecture.layers}", OTHER_MODEL)
        pairs.append(_pair(header.shapes, file, block, module, names, shapes[module], scales))
    return LoraContents(
        tuple(pair for pair in pairs if pair.module not in MODULATION),
        tuple(pair for pair in pairs if pair.module in MODULATION),
        lightning_steps(file, header.metadata),
        named_version(file, header.metadata),
    )


def _header(path: Path, file: str) -> Header:
    try:
        header = read_header(path)
    except BadFile as problem:
        raise unusable(file, problem.what, GET_ANOTHER if problem.remedy == AGAIN else problem.remedy) from problem
    for name, entry in header.tensors.items():
        if entry.dtype not in _FLOATS:
            raise unusable(file, f"{name[:80]!r} holds {entry.dtype}, not floating-point numbers of 8 to 64 bits")
    return header


def _is_of_peft(header: Header) -> bool:
    """Whether PEFT itself wrote the file: its configuration is then another file."""
    return all(name.startswith("base_model.model.") for name in header.shapes)


def _grouped(header: Header, file: str) -> dict[tuple[int, str], dict[str, str]]:
    """Names of tensors by block and module, then by part."""
    grouped: dict[tuple[int, str], dict[str, str]] = {}
    for name in sorted(header.shapes):
        key = parse_key(name)
        if key is None:
            raise unusable(
                file,
                f"{name[:120]!r} is no part of a LoRA on the attention, MLP or modulation of a transformer block",
                "Use a plain LoRA that was made for Qwen-Image-Edit, or leave this one out.",
            )
        parts = grouped.setdefault((key.block, key.module), {})
        if key.part in parts:
            raise unusable(file, f"{name} and {parts[key.part]} are the same part of one module")
        parts[key.part] = name
    return grouped


def _pair(
    shapes: Mapping[str, tuple[int, ...]],
    file: str,
    block: int,
    module: str,
    names: Mapping[str, str],
    shape: tuple[int, int],
    scales: StoredScales,
) -> Pair:
    for part, other in (("down", "up"), ("up", "down")):
        if part not in names:
            there = names.get(other) or names["alpha"]
            raise unusable(file, f"{there} has no {_LETTERS[part]} matrix beside it")
    down, up = shapes[names["down"]], shapes[names["up"]]
    outputs, inputs = shape
    for name, found, expected, side in ((names["down"], down, inputs, 1), (names["up"], up, outputs, 0)):
        if len(found) != 2 or found[side] != expected or 0 in found:
            wanted = f"[rank, {inputs}]" if side else f"[{outputs}, rank]"
            raise unusable(file, f"{name} is {list(found)}, and should be {wanted}", OTHER_MODEL)
    if down[0] != up[1]:
        raise unusable(file, f"{names['down']} has rank {down[0]}, and {names['up']} has {up[1]}")
    alpha = names.get("alpha")
    if alpha is not None and shapes[alpha] not in ((), (1,)):
        raise unusable(file, f"{alpha} is {list(shapes[alpha])}, and should be one number")
    return Pair(
        block, module, down[0], outputs, inputs, names["down"], names["up"], alpha, scales.scale(block, module, down[0])
    )


def _shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """(Outputs, inputs) of every module that a LoRA may be beside."""
    shape = BlockShape(architecture.inner_dim, architecture.mlp_dim, architecture.head_dim)
    found = {
        module: (linear.outputs // len(linear.modules), linear.inputs)
        for linear in linears(shape)
        for module in linear.modules
    }
    inner = architecture.inner_dim
    return {**found, **dict.fromkeys(MODULATION, (_MODULATION_ROWS * inner, inner))}

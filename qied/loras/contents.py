"""The contents of a LoRA file for a model, from its header: the pairs of matrices for the model's linears."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from qied_client.errors import ModelUnsupported

from qied.loras.lightning import lightning_steps, named_version
from qied.planning.block_layout import BlockShape, linears
from qied.planning.model_profile import Architecture
from qied.weights.header import Header, read_header
from qied.weights.problems import GET_ANOTHER as AGAIN
from qied.weights.problems import BadFile

Part = Literal["down", "up", "alpha"]

MODULATION: Final = ("img_mod.1", "txt_mod.1")
"""The linears of a block whose outputs depend on the timestep alone."""

_MODULES: Final = (*(module for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules), *MODULATION)
_FLAT: Final = {module.replace(".", "_"): module for module in _MODULES}
_PARTS: Final[dict[str, Part]] = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
_PREFIXES: Final = r"(?:(?:base_model\.model|model|transformer|diffusion_model)\.){0,3}"
_END: Final = r"(?:\.(?P<part>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|\.(?P<alpha>alpha))"
_DOTTED: Final = re.compile(_PREFIXES + r"transformer_blocks\.(?P<block>\d{1,4})\.(?P<module>[\w.]+?)" + _END, re.ASCII)
_UNDERSCORED: Final = re.compile(r"lora_unet_transformer_blocks_(?P<block>\d{1,4})_(?P<module>\w+?)" + _END, re.ASCII)


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA is: a part of ``module`` (diffusers' name) of a block, counted from 0."""

    block: int
    module: str
    part: Part


def parse_key(name: str) -> Key | None:
    """Parse the name of a tensor; None if it is not part of a LoRA that this version supports."""
    found = _DOTTED.fullmatch(name) or _UNDERSCORED.fullmatch(name)
    if found is None:
        return None
    module = found["module"] if found.re is _DOTTED else _FLAT.get(found["module"], "")
    if module not in _MODULES:
        return None
    return Key(int(found["block"]), module, "alpha" if found["alpha"] else _PARTS[found["part"]])


_KEY: Final = "lora_adapter_metadata"
_BESIDE: Final = "adapter_config.json"
_MOST_BYTES: Final = 1 << 20
_PREFIX: Final = "transformer."
_PLAIN: Final = re.compile(r"\^?[\w.]+")
_LARGEST: Final = 1e6
"""Of an alpha: every known one is below a few thousand."""
_REMEDY: Final = "Save the LoRA again with its alphas as tensors, or leave it out."


@dataclass(frozen=True)
class StoredScales:
    """``alpha`` of all modules but those of ``patterns`` (ends of module names); None where nothing is said.

    With ``by_root``, PEFT's rank-stabilised LoRA, alpha is divided by the root of the rank.
    """

    alpha: float | None = None
    patterns: tuple[tuple[str, float], ...] = ()
    by_root: bool = False

    def scale(self, block: int, module: str, rank: int) -> float:
        """What the product of a module's matrices counts; without an alpha it counts as it is."""
        name = f"transformer_blocks.{block}.{module}"
        named = (alpha for pattern, alpha in self.patterns if name == pattern or name.endswith(f".{pattern}"))
        alpha = next(named, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def stored_scales(metadata: Mapping[str, str], file: str) -> StoredScales:
    """Read the adapter's configuration, if there is one; raises ModelUnsupported for one that cannot be followed."""
    text = metadata.get(_KEY)
    return StoredScales() if text is None else _scales(text, f"the text {_KEY} in its header", file)


def scales_beside(folder: Path, file: str) -> StoredScales:
    """Read what PEFT's own folders hold next to the weights, as these say nothing of their alphas.

    Raises ModelUnsupported where it is not there, or cannot be followed.
    """
    beside = folder / _BESIDE
    try:
        with beside.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError:
        raise unusable(
            file, f"its alphas are in PEFT's {_BESIDE}, which is not next to it", f"Put {_BESIDE} next to it."
        ) from None
    if len(content) > _MOST_BYTES:
        raise unusable(file, f"the {_BESIDE} next to it has more than {_MOST_BYTES} bytes", _REMEDY)
    return _scales(content.decode(errors="replace"), f"the {_BESIDE} next to it", file)


def _scales(text: str, where: str, file: str) -> StoredScales:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise unusable(file, f"{where} is not JSON", _REMEDY) from None
    if not isinstance(config, dict):
        raise unusable(file, f"{where} is not a JSON object", _REMEDY)
    config = {str(key).removeprefix(_PREFIX): value for key, value in config.items()}
    for name in ("use_dora", "lora_bias"):
        if config.get(name):
            raise unusable(file, f"it was made with {name}, which this version does not support", _REMEDY)
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise unusable(file, "alpha_pattern in its header is not a JSON object", _REMEDY)
    for pattern in patterns:
        if not _PLAIN.fullmatch(pattern):
            raise unusable(file, f"alpha_pattern {pattern[:80]!r} in its header is not the name of a module", _REMEDY)
    alpha = config.get("lora_alpha")
    return StoredScales(
        None if alpha is None else _number(alpha, "lora_alpha", file),
        tuple((key.removeprefix("^"), _number(value, "alpha_pattern", file)) for key, value in patterns.items()),
        by_root=bool(config.get("use_rslora")),
    )


def _number(value: Any, what: str, file: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise unusable(file, f"{what} in its header is {str(value)[:40]!r}, but should be a number", _REMEDY)
    return float(value)


GET_ANOTHER = "Download the file again, or leave this LoRA out."
OTHER_MODEL = "Use a LoRA that was made for the served model, or leave this one out."


def unusable(file: str, what: str, remedy: str = GET_ANOTHER) -> ModelUnsupported:
    """The error to raise. ``file`` is relative to its LoRA folder, since users of the daemon get to see it."""
    return ModelUnsupported(f"The LoRA file {file} cannot be used: {what}.", remedy)


_MODULATION_ROWS = 6
"""Outputs of a modulation linear for each of its inputs: shift, scale and gate of attention and MLP."""
_FLOATS = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"))
"""Types that a LoRA may be stored in."""
_LETTERS = {"down": "A (down)", "up": "B (up)"}
_INPUT_OF = {module: linear.name for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules}


@dataclass(frozen=True)
class Pair:
    """The matrices for one linear: ``down`` [rank, inputs] and ``up`` [outputs, rank], by their names in the file.

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
    """The pairs of a file: ``linears`` for the linears of blocks, ``modulation`` for those of the modulation.

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
    def rank(self) -> int:
        """The largest rank of a pair."""
        return max((pair.rank for pair in (*self.linears, *self.modulation)), default=0)

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
            raise unusable(
                file, f"{name} belongs to block {block}, but the model has {architecture.layers}", OTHER_MODEL
            )
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
                f"{name[:120]!r} is not part of a LoRA on the attention, MLP or modulation of a transformer block",
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
            raise unusable(file, f"{there} has no {_LETTERS[part]} matrix to go with it")
    down, up = shapes[names["down"]], shapes[names["up"]]
    outputs, inputs = shape
    for name, found, expected, side in ((names["down"], down, inputs, 1), (names["up"], up, outputs, 0)):
        if len(found) != 2 or found[side] != expected or 0 in found:
            wanted = f"[rank, {inputs}]" if side else f"[{outputs}, rank]"
            raise unusable(file, f"{name} is {list(found)}, but should be {wanted}", OTHER_MODEL)
    if down[0] != up[1]:
        raise unusable(file, f"{names['down']} has rank {down[0]}, but {names['up']} has {up[1]}")
    alpha = names.get("alpha")
    if alpha is not None and shapes[alpha] not in ((), (1,)):
        raise unusable(file, f"{alpha} is {list(shapes[alpha])}, but should be one number")
    return Pair(
        block, module, down[0], outputs, inputs, names["down"], names["up"], alpha, scales.scale(block, module, down[0])
    )


def _shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """(Outputs, inputs) of every module that a LoRA may change."""
    shape = BlockShape(architecture.inner_dim, architecture.mlp_dim, architecture.head_dim)
    found = {
        module: (linear.outputs // len(linear.modules), linear.inputs)
        for linear in linears(shape)
        for module in linear.modules
    }
    inner = architecture.inner_dim
    return {**found, **dict.fromkeys(MODULATION, (_MODULATION_ROWS * inner, inner))}

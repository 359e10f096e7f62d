"""The contents of a LoRA file for a model, from its header: the changes of the model's linears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qied_client.text import counted

from qied.loras.changes import Change, Method, Reader
from qied.loras.keys import (
    LAST_NORM,
    MODULATION,
    PROJECTIONS,
    TIMES,
    Part,
    foreign_method,
    is_of_norm,
    is_of_text_encoder,
    parse_key,
)
from qied.loras.lightning import lightning_steps, named_version
from qied.loras.refusals import GET_ANOTHER, OTHER_MODEL, unusable
from qied.loras.stored_scales import StoredScales, scales_beside, stored_scales
from qied.planning.layout.block_layout import BlockShape, linears
from qied.planning.profiles.model_profile import Architecture
from qied.weights.header import Header, read_header
from qied.weights.problems import GET_ANOTHER as AGAIN
from qied.weights.problems import BadFile

_MODULATION_ROWS: Final = 6
"""Outputs of a modulation linear for each of its inputs: shift, scale and gate of attention and MLP."""
_MOST_OF_BLOCKS: Final = 3
"""A LoRA has a third of the numbers of the model's blocks, at most; a plain one of rank 512 has a quarter."""
_TIME_CHANNELS: Final = 256
"""Of the sines and cosines that stand for a timestep."""
_FLOATS: Final = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"))
"""Types that a LoRA may be stored in."""
_INTEGERS: Final = frozenset(("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"))
"""Types that an alpha may have as well."""
_INPUT_OF: Final = {module: linear.name for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules}
_BY_TIME: Final = (*MODULATION, LAST_NORM, *TIMES)
"""Linears whose outputs depend on the timestep alone."""


@dataclass(frozen=True)
class LoraContents:
    """The changes of a file: of the ``linears`` of blocks, of the linears ``around`` them, and ``by_time``.

    Those by time depend on the timestep alone: the modulation, the last norm, and the embedding of the time itself.
    ``steps`` is the number of steps of a Lightning LoRA, None for any other; ``version`` that of the model it names.
    ``left_out`` are tensors for the text encoder, which is not changed; ``norms`` are those that must be zero.
    """

    linears: tuple[Change, ...]
    modulation: tuple[Change, ...]
    steps: int | None
    version: str | None = None
    around: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.linears, *self.around, *self.modulation)

    @property
    def note(self) -> str:
        """What of the file is not used, as a sentence; empty where all of it is."""
        if not self.left_out:
            return ""
        some = f"{counted(len(self.left_out), 'tensor')}, such as {self.left_out[0][:80]!r}"
        return f"Its part for the text encoder is not used: {some}."

    @property
    def parameters(self) -> int:
        """Numbers that are on the device while an edit uses the LoRA: those by time only pass through."""
        return sum(change.parameters for change in (*self.linears, *self.around))

    @property
    def rank(self) -> int:
        """The largest rank of a change."""
        return max((change.rank for change in self.changes), default=0)

    @property
    def methods(self) -> tuple[Method, ...]:
        """How its changes were trained, each once, the plain LoRA first."""
        order: tuple[Method, ...] = ("LoRA", "LoKr", "LoHa", "full difference", "bias")
        there = {change.method for change in self.changes}
        return tuple(method for method in order if method in there)

    @property
    def width(self) -> int:
        """Most values of a token between two matrices, over the linears of a block that share their input."""
        sums: dict[tuple[int | None, str], int] = {}
        for change in self.linears:
            key = (change.block, _INPUT_OF[change.module])
            sums[key] = sums.get(key, 0) + change.rank
        return max((*sums.values(), *(change.width for change in self.linears)), default=0)


def read_contents(path: Path, file: str, architecture: Architecture, neighbours: Path | None = None) -> LoraContents:
    """Read what a file holds for a model; raises ModelUnsupported that names ``file``, the tensor and what to do.

    ``neighbours`` is the folder of what belongs to it, if that is not the folder that it lies in.
    """
    header = _header(path, file)
    left_out = tuple(name for name in sorted(header.shapes) if is_of_text_encoder(name))
    norms = tuple(name for name in sorted(header.shapes) if is_of_norm(name))
    grouped = _grouped([name for name in sorted(header.shapes) if name not in {*left_out, *norms}], file)
    if not grouped:
        what = "it only changes the text encoder, which stays as it is" if left_out else "it holds no tensors"
        raise unusable(file, what, OTHER_MODEL)
    _check_types(header, {names["alpha"] for names in grouped.values() if "alpha" in names}, file)
    scales = stored_scales(header.metadata, file)
    if scales == StoredScales() and _is_of_peft(header) and not any("alpha" in names for names in grouped.values()):
        scales = scales_beside(neighbours or path.parent, file)
    shapes = _shapes(architecture)
    reader = Reader(header.shapes, file, scales)
    changes = []
    for (block, module), names in sorted(grouped.items(), key=lambda item: (item[0][0] is None, item[0])):
        if block is not None and block >= architecture.layers:
            name = next(iter(names.values()))
            raise unusable(
                file, f"{name} belongs to block {block}, but the model has {architecture.layers}", OTHER_MODEL
            )
        changes.append(reader.change(block, module, names, shapes[module]))
    contents = LoraContents(
        tuple(change for change in changes if change.module in _INPUT_OF),
        tuple(change for change in changes if change.module in _BY_TIME),
        lightning_steps(file, header.metadata),
        named_version(file, header.metadata),
        tuple(change for change in changes if change.module in PROJECTIONS),
        left_out,
        norms,
    )
    _check_size(contents, architecture, file)
    return contents


def _check_size(contents: LoraContents, architecture: Architecture, file: str) -> None:
    """Refuse what would need as much room as another model: that room is kept at every start."""
    most = architecture.layers * architecture.block_parameters // _MOST_OF_BLOCKS
    if contents.parameters > most:
        raise unusable(
            file,
            f"its {' and '.join(contents.methods)} takes {contents.parameters:,} numbers, and at most "
            f"{most:,} are possible",
            "Use a LoRA or LoKr instead, or a lower rank; a LoHa of rank r takes as much as a LoRA of rank r * r.",
        )


def _header(path: Path, file: str) -> Header:
    try:
        return read_header(path)
    except BadFile as problem:
        raise unusable(file, problem.what, GET_ANOTHER if problem.remedy == AGAIN else problem.remedy) from problem


def _check_types(header: Header, alphas: set[str], file: str) -> None:
    for name, entry in header.tensors.items():
        if entry.dtype not in _FLOATS and not (name in alphas and entry.dtype in _INTEGERS):
            raise unusable(file, f"{name[:80]!r} holds {entry.dtype}, not floating-point numbers of 8 to 64 bits")
        if name in alphas and 0 in entry.shape:
            raise unusable(file, f"{name[:80]!r} is {list(entry.shape)}, but should be one number")


def _is_of_peft(header: Header) -> bool:
    """Whether PEFT itself wrote the file: its configuration is then another file."""
    return all(name.startswith("base_model.model.") for name in header.shapes)


def _grouped(tensors: list[str], file: str) -> dict[tuple[int | None, str], dict[Part, str]]:
    """Names of tensors by block and module, then by part."""
    grouped: dict[tuple[int | None, str], dict[Part, str]] = {}
    for name in tensors:
        key = parse_key(name)
        if key is None:
            raise _foreign(name, file)
        parts = grouped.setdefault((key.block, key.module), {})
        if key.part in parts:
            raise unusable(file, f"{name} and {parts[key.part]} are the same part of one module")
        parts[key.part] = name
    return grouped


def _foreign(name: str, file: str) -> Exception:
    method = foreign_method(name)
    if method is not None:
        return unusable(
            file,
            f"it was trained with {method} ({name[:120]!r}), which this version does not run",
            "Use a version of it that is a LoRA, LoKr or LoHa, or leave it out.",
        )
    return unusable(
        file,
        f"{name[:120]!r} changes no linear of the transformer of Qwen-Image-Edit",
        "Use a LoRA that was made for Qwen-Image-Edit, or leave this one out.",
    )


def _shapes(architecture: Architecture) -> Mapping[str, tuple[int, int]]:
    """(Outputs, inputs) of every linear that a LoRA may change."""
    shape = BlockShape(architecture.inner_dim, architecture.mlp_dim, architecture.head_dim)
    found = {
        module: (linear.outputs // len(linear.modules), linear.inputs)
        for linear in linears(shape)
        for module in linear.modules
    }
    inner, channels = architecture.inner_dim, architecture.token_channels
    return {
        **found,
        **dict.fromkeys(MODULATION, (_MODULATION_ROWS * inner, inner)),
        "img_in": (inner, channels),
        "txt_in": (inner, architecture.joint_dim),
        "proj_out": (channels, inner),
        LAST_NORM: (2 * inner, inner),
        TIMES[0]: (inner, _TIME_CHANNELS),
        TIMES[1]: (inner, inner),
    }

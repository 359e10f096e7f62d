"""How the tensors of a file are stored: which are weights, which are the scales of others, and in which precision.

The ways in which FP8 and INT8 weights are kept differ in the names and shapes of their scales, and each layer of a file
may differ from the next, as the types of tensors in a GGUF file do. Anything else is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

from qied.weights.block_scales import TENSOR_SCALE, BlockScaled, block_scaled, whole_entry
from qied.weights.file_kinds import INSTEAD
from qied.weights.foreign_formats import LayerMarker, foreign_format, named_formats, named_groups, of_layer
from qied.weights.gguf_types import BLOCKS, EXPANDED
from qied.weights.header import Header, TensorEntry
from qied.weights.problems import BadFile

GgufPrecision = Literal[
    "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_xs", "iq4_nl"
]
"""Quantised types of GGUF."""
Precision = (
    Literal["bf16", "fp16", "fp32", "fp8_plain", "fp8_scaled", "fp8_comfy", "fp8_lightx2v", "int8"]
    | BlockScaled
    | GgufPrecision
)

E4M3: Final = "F8_E4M3"
INT8: Final = "I8"
QUANTISED: Final[frozenset[str]] = frozenset(get_args(GgufPrecision))
_PLAIN: Final[dict[str, Precision]] = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp32"}
PLAIN: Final[frozenset[Precision]] = frozenset(_PLAIN.values())
"""Precisions of 16 bits and more."""
_QUANTISED: Final[tuple[Precision, ...]] = (
    "nvfp4",
    "mxfp8",
    "int8",
    "fp8_lightx2v",
    "fp8_comfy",
    "fp8_scaled",
    "fp8_plain",
)
_NUMBERS: Final = frozenset((*_PLAIN, E4M3, INT8))
_SCALES: Final = frozenset(("F32", "F16", "BF16"))
_WEIGHT: Final = ".weight"
LEGACY_SCALE, LEGACY_INPUT_SCALE = ".scale_weight", ".scale_input"
SCALE, INPUT_SCALE, LAYER_MARKER = ".weight_scale", ".input_scale", ".comfy_quant"
_HELPERS: Final = (LEGACY_SCALE, LEGACY_INPUT_SCALE, SCALE, INPUT_SCALE, LAYER_MARKER)
_FORMATS: Final[dict[Precision, str]] = {"int8": "int8_tensorwise", "nvfp4": "nvfp4", "mxfp8": "mxfp8"}
"""ComfyUI's names of formats; the others are its FP8."""
_FP8_FORMAT: Final = "float8_e4m3fn"
FILE_MARKER: Final = "scaled_fp8"
"""Name of the tensor that says that a file has the older kind of scales."""


@dataclass(frozen=True)
class Stored:
    """One weight as it lies in a file: its own entry, and the name and entry of its scale where it has one.

    A scale has one number, or one for each row of the weight. ``block_scale`` names the scales for each few numbers of
    a row that NVFP4 and MXFP8 have; the entry has the shape of the numbers. ``marker`` names the tensor with the
    layer's format. INT8 may be rotated in groups of ``group`` inputs. Of a weight that lies in ``pieces`` the entry has
    the shape of the whole: they are its rows, or the frames of its third dimension.
    """

    key: str
    entry: TensorEntry
    precision: Precision
    scale: tuple[str, TensorEntry] | None = None
    marker: str | None = None
    group: int = 1
    block_scale: str | None = None
    pieces: tuple[Stored, ...] = ()
    joined: Literal["rows", "frames"] = "rows"


def stored_tensors(header: Header) -> dict[str, Stored]:
    """The weights of a file by their names in it; scales and markers are with the weight that they belong to.

    Raises BadFile for a format that is not run here, which it names, and for tensors that are no numbers.
    """
    if header.format == "safetensors" and (foreign := foreign_format(header)) is not None:
        raise BadFile(foreign.what, foreign.remedy)
    tensors, groups = header.tensors, named_groups(header.metadata)
    helpers = {name for name in tensors if _is_helper(name, tensors)}
    found = {name: _stored(name, tensors) for name in tensors if name not in helpers}
    formats = named_formats(header.metadata)
    if not formats:
        return found
    for name, one in found.items():
        layer = name.removesuffix(_WEIGHT)
        check_format(one, of_layer(formats, layer))
        found[name] = with_group(one, of_layer(groups, layer) or 1)
    return found


def with_group(stored: Stored, group: int) -> Stored:
    """The same weight, known to be rotated in such groups; raises BadFile where they do not divide its rows."""
    if group == 1 or stored.precision != "int8":
        return stored
    if len(stored.entry.shape) != 2 or stored.entry.shape[1] % group:
        raise BadFile(f"{stored.key[:120]!r} is {list(stored.entry.shape)}, but rotated in groups of {group}")
    return replace(stored, group=group)


def check_format(stored: Stored, named: str | None) -> None:
    """Raise BadFile where a quantised weight is not of the format that the file names for its layer."""
    if named is None or stored.precision in _PLAIN.values() or stored.precision in QUANTISED:
        return
    if named != (format_ := _FORMATS.get(stored.precision, _FP8_FORMAT)):
        raise BadFile(f"{stored.key[:120]!r} is said to be {named[:40]}, but it is stored as {format_}")


def precision_of(stored: Mapping[str, Stored]) -> Precision | None:
    """The precision of a file: INT8 or FP8 where any matrix is, of the richest kind; else what most bytes have."""
    matrices = [one for one in stored.values() if len(one.entry.shape) > 1]
    found = {one.precision for one in matrices}
    for precision in _QUANTISED:
        if precision in found:
            return precision
    sizes: Counter[Precision] = Counter()
    for one in matrices or stored.values():
        sizes[one.precision] += one.entry.nbytes
    return sizes.most_common(1)[0][0] if sizes else None


def _is_helper(name: str, tensors: Mapping[str, TensorEntry]) -> bool:
    if name.rpartition(".")[2] == FILE_MARKER:
        return True
    if name.endswith(TENSOR_SCALE):
        weight = tensors.get(name.removesuffix(TENSOR_SCALE) + _WEIGHT)
        return weight is not None and weight.dtype == "U8"
    return any(name.endswith(end) and name.removesuffix(end) + _WEIGHT in tensors for end in _HELPERS)


def _stored(name: str, tensors: Mapping[str, TensorEntry]) -> Stored:
    entry = tensors[name]
    if entry.dtype in BLOCKS:
        return Stored(name, entry, _gguf_precision(name, entry.dtype))
    if (kind := block_scaled(entry, tensors.get(name.removesuffix(_WEIGHT) + SCALE))) is not None:
        return _block_scaled(name, kind, tensors)
    if entry.dtype not in _NUMBERS:
        if 0 in entry.shape:
            return Stored(name, entry, "fp32")
        raise BadFile(f"{name[:120]!r} holds {entry.dtype}, not floating-point numbers", INSTEAD)
    if entry.dtype in (E4M3, INT8):
        return _scaled(name, entry, tensors)
    layer = name.removesuffix(_WEIGHT)
    if scale := next((layer + end for end in (SCALE, LEGACY_SCALE) if layer + end in tensors), None):
        raise BadFile(f"{name[:120]!r} holds {entry.dtype}, but has the scale of an FP8 weight, {scale[:120]!r}")
    return Stored(name, entry, _PLAIN[entry.dtype])


def _block_scaled(name: str, kind: BlockScaled, tensors: Mapping[str, TensorEntry]) -> Stored:
    layer = name.removesuffix(_WEIGHT)
    marker, scales, whole = (layer + end for end in (LAYER_MARKER, SCALE, TENSOR_SCALE))
    entry = whole_entry(name, kind, tensors[name], tensors[scales])
    scale = None
    if kind == "nvfp4":
        if whole not in tensors:
            raise BadFile(f"{name[:120]!r} has no {whole[:120]!r}, which nvfp4 requires")
        if tensors[whole].dtype != "F32" or tensors[whole].shape not in ((), (1,)):
            found = tensors[whole]
            raise BadFile(f"{whole[:120]!r} is {list(found.shape)} of {found.dtype}, but should be one number of F32")
        scale = (whole, tensors[whole])
    return Stored(name, entry, kind, scale, marker if marker in tensors else None, block_scale=scales)


def _gguf_precision(name: str, dtype: str) -> GgufPrecision:
    if dtype not in EXPANDED:
        raise BadFile(
            f"{name[:120]!r} is stored as {dtype}, a GGUF type that qied does not support",
            "Use a GGUF file of Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K or IQ4_XS.",
        )
    return cast(GgufPrecision, dtype.lower())


def _scaled(name: str, entry: TensorEntry, tensors: Mapping[str, TensorEntry]) -> Stored:
    layer = name.removesuffix(_WEIGHT)
    legacy, current, marker = (f"{layer}{end}" for end in (LEGACY_SCALE, SCALE, LAYER_MARKER))
    if legacy in tensors and current in tensors:
        raise BadFile(f"{name[:120]!r} has two scales, {legacy[:120]} and {current[:120]}")
    scale = next((one for one in (legacy, current) if one in tensors), None)
    if scale is None and marker in tensors:
        raise BadFile(f"{name[:120]!r} has no scale, which {marker[:120]!r} requires")
    if scale is None:
        if entry.dtype == INT8:
            raise BadFile(f"{name[:120]!r} holds {INT8}, but has no scale", INSTEAD)
        return Stored(name, entry, "fp8_plain")
    by_row = _is_by_row(scale, tensors[scale], name, entry)
    precision: Precision = "fp8_scaled" if scale == legacy else "fp8_comfy"
    if by_row and marker not in tensors:
        precision = "fp8_lightx2v"
    if entry.dtype == INT8:
        precision = "int8"
    return Stored(name, entry, precision, (scale, tensors[scale]), marker if marker in tensors else None)


def _is_by_row(scale: str, found: TensorEntry, name: str, weight: TensorEntry) -> bool:
    """Whether a scale has a number for each row of its weight, and not one for all."""
    if found.dtype not in _SCALES:
        raise BadFile(f"{scale[:120]!r} holds {found.dtype}, but should hold F32")
    if not weight.shape or 0 in weight.shape:
        raise BadFile(f"{name[:120]!r} is {list(weight.shape)}, but has a scale")
    if found.shape in ((), (1,), (1, 1)):
        return False
    rows = weight.shape[0]
    if len(weight.shape) == 2 and found.shape in ((rows,), (rows, 1)):
        return True
    raise BadFile(
        f"{scale[:120]!r} is {list(found.shape)}, but should be one number or [{rows}, 1] for {name[:120]!r}",
        "Use a file with one scale for each tensor or each output channel.",
    )


def layer_markers(stored: Mapping[str, Stored]) -> Iterator[str]:
    """Names of the tensors that say in which format a layer is."""
    return (one.marker for one in stored.values() if one.marker is not None)


def as_marked(stored: Stored, markers: Mapping[str, LayerMarker]) -> Stored:
    """A weight with what its own marker says of it; raises BadFile where that contradicts how it is stored."""
    if stored.marker is None:
        return stored
    marker = markers[stored.marker]
    check_format(stored, marker.format)
    return with_group(stored, marker.group)

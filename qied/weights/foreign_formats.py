"""Quantised formats that are not supported: recognised by their tensors, refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from qied.weights.block_scales import GROUPS
from qied.weights.file_kinds import INSTEAD, ForeignKind
from qied.weights.header import Header, TensorEntry
from qied.weights.problems import BadFile

METADATA_KEY: Final = "_quantization_metadata"
RUN: Final = frozenset({"float8_e4m3fn", "int8_tensorwise", *GROUPS})
"""Formats by ComfyUI's names that are run here."""
_MOST_CHARS: Final = 4 * 1024 * 1024
_MARKER_BYTES: Final = 4096
_WEIGHT: Final = ".weight"
_MARKER: Final = ".comfy_quant"
_CONVROT_GROUP: Final = 256
"""What ComfyUI rotates together where a layer does not say it."""
_GROUPS: Final = frozenset(4**power for power in range(1, 8))

Tensors = Mapping[str, TensorEntry]
T = TypeVar("T")


class LayerMarker(NamedTuple):
    """The format of a layer by ComfyUI's name, and how many neighbouring inputs are rotated together: 1 for none."""

    format: str
    group: int


def foreign_format(header: Header) -> ForeignKind | None:
    """The first format of a file that is not run here; None where every layer can be."""
    named = named_formats(header.metadata)
    for layer, name in named.items():
        if name not in RUN:
            return _refusal(name, layer)
    ends: dict[str, list[str]] = {}
    for tensor in header.tensors:
        layer, _, end = tensor.rpartition(".")
        ends.setdefault(layer, []).append(end)
    for find in (_by_names, _by_types):
        for layer, names in ends.items():
            found = find(layer, frozenset(names), header.tensors)
            if found is None or (
                found in GROUPS and (of_layer(named, layer) is not None or layer + _MARKER in header.tensors)
            ):
                continue
            return _unmarked(found, layer) if found in GROUPS else _refusal(found, layer)
    return None


def named_formats(metadata: Mapping[str, str]) -> dict[str, str]:
    """By layer, the formats that a header names; raises BadFile where it names none of a layer."""
    return {layer: _format(marker) or "" for layer, marker in _layers(metadata)}


def named_groups(metadata: Mapping[str, str]) -> dict[str, int]:
    """By layer, the groups in which a header says that inputs are rotated; raises BadFile as :func:`check_marker`."""
    return {layer: _group(marker, layer) for layer, marker in _layers(metadata)}


def of_layer(named: Mapping[str, T], layer: str) -> T | None:
    """What a header says of a layer; its names may lack the words that a file puts before all of its tensors."""
    while layer not in named:
        _, dot, layer = layer.partition(".")
        if not dot:
            return None
    return named[layer]


def check_markers(path: Path, header: Header, names: Iterable[str]) -> dict[str, LayerMarker]:
    """Read the markers of these ``names``; raises as :func:`check_marker`."""
    names = list(names)
    found: dict[str, LayerMarker] = {}
    if not names:
        return found
    try:
        with path.open("rb") as stream:
            for name in names:
                entry = header.tensors[name]
                if entry.nbytes > _MARKER_BYTES:
                    raise BadFile(f"{name[:120]!r} has {entry.nbytes} bytes, more than {_MARKER_BYTES}")
                stream.seek(header.data_start + entry.begin)
                found[name] = check_marker(stream.read(entry.nbytes), name)
    except OSError as error:
        raise BadFile(f"it cannot be read ({error.strerror})", "Check the file and its permissions.") from error
    return found


def check_marker(content: bytes, name: str) -> LayerMarker:
    """Read what a layer's marker says; raises BadFile for a format or a rotation that is not run here, or none."""
    marker = _object(content)
    found = _format(marker)
    if found is None:
        raise BadFile(f"{name[:120]!r} names no format of its layer")
    if found not in RUN:
        refusal = _refusal(found, name.rpartition(".")[0])
        raise BadFile(refusal.what, refusal.remedy)
    return LayerMarker(found, _group(marker, name))


def _group(marker: dict[str, Any] | None, name: str) -> int:
    if marker is None or not marker.get("convrot"):
        return 1
    group = marker.get("convrot_groupsize", _CONVROT_GROUP)
    if not isinstance(group, int) or group not in _GROUPS:
        raise BadFile(f"{name[:120]!r} is rotated in groups of {str(group)[:20]}, which are no power of 4", INSTEAD)
    return group


def _refusal(name: str, layer: str) -> ForeignKind:
    what = f"{layer[:120] or 'it'} is stored as {name[:40]}, a format that qied does not support"
    return ForeignKind(what, _NEAREST.get(name, INSTEAD))


def _unmarked(name: str, layer: str) -> ForeignKind:
    what = f"{layer[:120] or 'it'} is stored as {name}, but not marked as ComfyUI's, and others keep it in other orders"
    return ForeignKind(what, f"Use ComfyUI's file of {name}, which has a comfy_quant for each layer. {_NEAREST[name]}")


def _layers(metadata: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(Layer, what is said of it) of the texts in a header, as current versions of ComfyUI write them."""
    text = metadata.get(METADATA_KEY)
    if text is None:
        return
    content = _object(text) if len(text) <= _MOST_CHARS else None
    layers = content.get("layers") if content is not None else None
    if not isinstance(layers, dict):
        raise BadFile(f"{METADATA_KEY} in its header names no layers")
    for layer, value in layers.items():
        marker = value if isinstance(value, dict) else {}
        if _format(marker) is None:
            raise BadFile(f"{METADATA_KEY} in its header names no format of {layer[:120]!r}")
        yield layer, marker


def _format(marker: dict[str, Any] | None) -> str | None:
    found = None if marker is None else marker.get("format")
    return found if isinstance(found, str) else None


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _by_names(_layer: str, ends: frozenset[str], _tensors: Tensors) -> str | None:
    """The format that the tensors of one layer are in, by the ends of their names."""
    return next((name for name, needed in _SIGNS.items() if needed <= ends), None)


def _by_types(layer: str, _ends: frozenset[str], tensors: Tensors) -> str | None:
    """The format that the tensors of one layer are in, by their types."""
    weight = tensors.get(layer + _WEIGHT)
    scale = tensors.get(f"{layer}.weight_scale")
    if weight is None:
        return None
    return next((name for name, applies in _TYPES.items() if applies(weight, scale)), None)


_FOUR_BITS: Final = "Use a GGUF file of Q4_K_M, which has about the same size, or any file in FP8 or BF16."
_EIGHT_BITS: Final = "Use a file in FP8 (E4M3), or a GGUF file of Q8_0, which have about the same size."
_NEAREST: Final = {
    **dict.fromkeys(
        (
            *("nvfp4", "mxfp4", "convrot_w4a4", "asym_w4a8_int8", "awq_w4a16", "svdquant (Nunchaku)", "AWQ or GPTQ"),
            *("bitsandbytes 4-bit", "a 4- or 6-bit type", "packed integers"),
        ),
        _FOUR_BITS,
    ),
    **dict.fromkeys(
        (
            "FP8 with scales for blocks of 128 x 128",
            "mxfp8",
            "float8_e5m2",
            "float8_e4m3fnuz",
            "int8_tensorwise",
            "bitsandbytes 8-bit",
        ),
        _EIGHT_BITS,
    ),
}
"""The nearest files that are run, by the format that people have instead."""
_SIGNS: Final[dict[str, frozenset[str]]] = {
    "nvfp4": frozenset({"weight", "weight_scale", "weight_scale_2"}),
    "asym_w4a8_int8": frozenset({"weight", "weight_s_rel"}),
    "svdquant (Nunchaku)": frozenset({"qweight", "wscales"}),
    "AWQ or GPTQ": frozenset({"qweight", "qzeros"}),
    "bitsandbytes 4-bit": frozenset({"absmax", "quant_map"}),
    "bitsandbytes 8-bit": frozenset({"weight", "SCB"}),
    "quanto": frozenset({"_data", "_scale"}),
    "HQQ": frozenset({"W_q"}),
    "SDNQ": frozenset({"weight", "scale"}),
    "FP8 with scales for blocks of 128 x 128": frozenset({"weight", "weight_scale_inv"}),
    "torchao": frozenset({"_weight_qdata"}),
    "torchao's older form": frozenset({"int_data", "scale"}),
}
"""Ends of names that a layer of each format has together."""
_TYPES: Final[dict[str, Callable[[TensorEntry, TensorEntry | None], bool]]] = {
    "mxfp8": lambda weight, scale: (
        weight.dtype.startswith("F8_") and scale is not None and scale.dtype in ("U8", "F8_E8M0")
    ),
    "nvfp4": lambda weight, scale: weight.dtype in ("U8", "F4") and scale is not None and scale.dtype == "F8_E4M3",
    "float8_e5m2": lambda weight, _: weight.dtype == "F8_E5M2",
    "float8_e4m3fnuz": lambda weight, _: weight.dtype.endswith("FNUZ"),
    "int8 without scales": lambda weight, scale: weight.dtype == "I8" and scale is None,
    "a 4- or 6-bit type": lambda weight, _: weight.dtype in ("F4", "F6_E2M3", "F6_E3M2"),
    "packed integers": lambda weight, _: weight.dtype in ("U8", "I16", "I32", "U16", "U32"),
}
"""Types of a weight and its scale that a format has."""

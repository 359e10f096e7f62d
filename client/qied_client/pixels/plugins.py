"""Picture formats that Pillow decodes with a plugin, and whether it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final, get_args

from PIL import features

from qied_client.picture_header import FORMAT_NAMES, PictureFormat

PLUGINS: Final = {"heif": (FORMAT_NAMES["heif"], "pillow_heif"), "jxl": (FORMAT_NAMES["jxl"], "pillow_jxl")}
"""By format: what people call it, and the plugin's module."""
TURNED_BY_DECODER: Final = ("heif", "jxl")
"""Formats of which decoders give the picture upright."""


def is_decodable(kind: PictureFormat) -> bool:
    """Whether Pillow, and where it needs one its plugin, are installed for a format."""
    if kind == "avif":
        return bool(features.check("avif"))
    return kind not in PLUGINS or find_spec(PLUGINS[kind][1]) is not None


def decodable_formats() -> tuple[PictureFormat, ...]:
    """All formats that can be decoded here."""
    return tuple(kind for kind in get_args(PictureFormat) if is_decodable(kind))


def load_plugin(kind: PictureFormat) -> None:
    """Let Pillow know a format that is decodable here; again does nothing."""
    if kind == "heif":
        heif = import_module("pillow_heif")
        heif.options.DECODE_THREADS = 1  # Each thread would take address space, which decoders have little of.
        heif.register_heif_opener()
    elif kind == "jxl":
        import_module("pillow_jxl")

"""Picture formats that Pillow decodes with a plugin, and whether it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from PIL import features

from qied_client.picture_header import PictureFormat

PLUGINS: Final = {"heif": ("HEIC", "pillow_heif"), "jxl": ("JPEG XL", "pillow_jxl")}
"""By format: what people call it, and the plugin's module."""


def is_decodable(kind: PictureFormat) -> bool:
    """Whether Pillow, and where it needs one its plugin, are installed for a format."""
    if kind == "avif":
        return bool(features.check("avif"))
    return kind not in PLUGINS or find_spec(PLUGINS[kind][1]) is not None


def load_plugin(kind: PictureFormat) -> None:
    """Let Pillow know a format that is decodable here; again does nothing."""
    if kind == "heif":
        heif = import_module("pillow_heif")
        heif.options.DECODE_THREADS = 1  # Each thread would take address space, which decoders have little of.
        heif.register_heif_opener()
    elif kind == "jxl":
        import_module("pillow_jxl")

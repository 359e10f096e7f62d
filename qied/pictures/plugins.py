"""Picture formats that Pillow decodes with a plugin, and whether it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from PIL import features
from qied_client.errors import UnsupportedPicture
from qied_client.picture_header import PictureFormat

_PLUGINS: Final = {
    "heif": ("HEIC", "pillow_heif", "pillow-heif"),
    "jxl": ("JPEG XL", "pillow_jxl", "pillow-jxl-plugin"),
}
"""By format: what people call it, the plugin's module, and its package."""


def check_decodable(kind: PictureFormat) -> None:
    """Raise UnsupportedPicture, with what to install, for a format that cannot be decoded here."""
    if kind == "avif" and not features.check("avif"):
        raise UnsupportedPicture(
            "This daemon cannot read AVIF pictures: its Pillow was built without AVIF.",
            "Convert the picture to PNG or JPEG, or ask the daemon's owner to install Pillow from the package index: "
            "pip install --force-reinstall pillow.",
        )
    if kind in _PLUGINS:
        name, module, package = _PLUGINS[kind]
        if find_spec(module) is None:
            raise UnsupportedPicture(
                f"This daemon cannot read {name} pictures: {package} is not installed.",
                "Convert the picture to PNG or JPEG, or ask the daemon's owner to install it (pip install "
                "'qied[formats]') and to restart the daemon.",
            )


def load_plugin(kind: PictureFormat) -> None:
    """Let Pillow know a format; raises UnsupportedPicture where its plugin is not installed. Again does nothing."""
    check_decodable(kind)
    if kind == "heif":
        heif = import_module("pillow_heif")
        heif.options.DECODE_THREADS = 1  # Each thread would take address space, which is limited.
        heif.register_heif_opener()
    elif kind == "jxl":
        import_module("pillow_jxl")

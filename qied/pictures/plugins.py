"""Refuses formats of pictures that this daemon's Pillow cannot decode, with what to install."""

from __future__ import annotations

from qied_client.errors import UnsupportedPicture
from qied_client.installing import install_extra
from qied_client.picture_header import PictureFormat
from qied_client.pixels import plugins


def check_decodable(kind: PictureFormat) -> None:
    """Raise UnsupportedPicture, with what to install, for a format that cannot be decoded here."""
    if plugins.is_decodable(kind):
        return
    if kind == "avif":
        raise UnsupportedPicture(
            "This daemon cannot read AVIF pictures: its Pillow was built without AVIF.",
            "Convert the picture to PNG or JPEG, or ask the daemon's owner to install Pillow from the package index "
            "(pip install --force-reinstall pillow) and to restart the daemon.",
        )
    name, module = plugins.PLUGINS[kind]
    raise UnsupportedPicture(
        f"This daemon cannot read {name} pictures: {module} is not installed.",
        "Convert the picture to PNG or JPEG, or ask the daemon's owner to install it "
        f"({install_extra('qied[formats]', here=False)}) and to restart the daemon.",
    )


def load_decoder(kind: PictureFormat) -> None:
    """Let Pillow know a format; raises UnsupportedPicture where it cannot be decoded here."""
    check_decodable(kind)
    plugins.load_plugin(kind)

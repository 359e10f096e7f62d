"""Pictures as users have them (path, bytes, file, Pillow image, array) turned into the bytes of a picture file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from qied_client.errors import BlobTooLarge, InvalidRequest, SetupError, UnsupportedPicture
from qied_client.protocol import limits
from qied_client.system_failures import with_home


class OpenFile(Protocol):
    """A file that is open in binary mode, or whatever else has its ``read``."""

    def read(self, size: int, /) -> bytes: ...


class PillowImage(Protocol):
    """An image of Pillow."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def getbands(self) -> tuple[str, ...]: ...


class ArrayLike(Protocol):
    """An array of numpy, a tensor of torch, or another that numpy can read."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | OpenFile | PillowImage | ArrayLike
"""One picture: a file's path, its bytes, an open binary file, a Pillow image, or an array.

Files are PNG, JPEG, WebP, AVIF, HEIC or JPEG XL. Arrays are [height, width] or [height, width, 1, 3 or 4], tensors of
torch also [1, 3 or 4, height, width], alone or as a batch of one; of uint8, uint16 (white is 65535), bool, or floats
from 0 to 1. ``~`` in a path is the home folder.
"""
Pictures = Picture | Sequence[Picture]

_WEB_REMEDY: Final = "Download it first, and give the file or its bytes."
_URL_REMEDIES: Final = {
    "http": _WEB_REMEDY,
    "https": _WEB_REMEDY,
    "ftp": _WEB_REMEDY,
    "s3": "Copy the object to a file first, and give that or its bytes.",
    "gs": "Copy the object to a file first, and give that or its bytes.",
    "file": "Give the path alone, without 'file://'.",
    "data": "Decode what follows its comma from base64, and give the bytes or a file of them.",
}
# A Path of an address has lost one of its slashes.
_URL: Final = re.compile(r"(?:(https?|ftp|s3|gs|file):/|(data):(?:[\w.+-]+/|[^/]{0,80}[;,]))", re.IGNORECASE)
_SHOWN: Final = 80


def sequence(pictures: Pictures) -> list[Picture]:
    """One picture or several as a list."""
    return list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]  # type: ignore[list-item]


def picture_bytes(picture: Picture, option: str = "images") -> bytes:
    """Bytes of a picture's file; Pillow images and arrays are encoded as PNG.

    ``option`` is what the picture was given as, for the error's details. Raises InvalidRequest for a path that cannot
    be read, for a type that is not a picture and for pixels that are not those of one, BlobTooLarge above 64 MiB,
    UnsupportedPicture without bytes, SetupError for an array if numpy or Pillow is missing.
    """
    if isinstance(picture, (str, os.PathLike)):
        data = _read_path(picture, option)
    elif isinstance(picture, (bytes, bytearray, memoryview)):
        data = bytes(picture)
    elif _is_array(picture) or hasattr(picture, "getbands"):
        data = _encoded(picture, option)
    elif hasattr(picture, "read"):
        data = _read_open_file(picture, option)
    else:
        raise _refused(
            f"A {type(picture).__name__} is not a picture.",
            "Give a path, bytes, an open file, a Pillow image or a numpy array.",
            option,
        )
    if not data:
        raise UnsupportedPicture(
            "The picture is empty.",
            "Rewind the file with seek(0) if it was read before." if hasattr(picture, "read") else _FORMATS,
        )
    if len(data) > limits.BLOB_BYTES:
        raise BlobTooLarge(
            f"The picture has {len(data)} bytes or more; the limit is {limits.BLOB_BYTES}.", "Send a smaller file."
        )
    return data


_FORMATS: Final = "Give a file of a picture."


def _is_array(picture: object) -> bool:
    return (hasattr(picture, "shape") and hasattr(picture, "dtype")) or (
        hasattr(picture, "__array_interface__") and not hasattr(picture, "getbands")
    )


def _read_path(given: str | os.PathLike[str], option: str) -> bytes:
    text = os.fspath(given)
    if not isinstance(text, str):
        raise _refused(f"The path {text!r} is bytes.", "Give it as text: os.fsdecode(path).", option)
    if url := _URL.match(text):
        scheme = (url[1] or url[2]).lower()
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise _refused(f"{shown} is an address, and qied fetches nothing.", _URL_REMEDIES[scheme], option)
    path = with_home(text)
    if _is_named_pipe(path):
        raise _refused(f"{path} is a named pipe.", "Save the picture to a file, and give its path.", option)
    try:
        with path.open("rb") as file:
            return file.read(limits.BLOB_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, IsADirectoryError) or (os.name == "nt" and path.is_dir()):
            raise _refused(f"{path} is a folder.", "Give the path of a picture file in it.", option) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(f"{path}: {reason}.", "Give the path of a picture file.", option) from error


def _is_named_pipe(path: Path) -> bool:
    """Whether opening a path would wait until some program writes to it; a shell's ``<(command)`` has a writer."""
    try:
        return path.is_fifo() and path.parts[:2] not in (("/", "dev"), ("/", "proc"))
    except (OSError, ValueError):
        return False


def _read_open_file(file: Any, option: str) -> bytes:
    if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
        name = getattr(file, "name", "")
        which = f"The file {name}" if isinstance(name, str) and name else "The file"
        raise _refused(f"{which} is open in text mode and returns str, not bytes.", "Open it with mode 'rb'.", option)
    try:
        data = file.read(limits.BLOB_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _refused(f"The open file cannot be read: {error}.", "Open it with mode 'rb'.", option) from error
    if not isinstance(data, bytes):
        raise _refused(f"The file returns {type(data).__name__}, not bytes.", "Open it with mode 'rb'.", option)
    return data


def _encoded(picture: Any, option: str) -> bytes:
    try:
        from qied_client.pixels.images import array_as_png, image_as_png

        return array_as_png(picture) if _is_array(picture) else image_as_png(picture)
    except ImportError:
        raise SetupError(
            "Arrays and Pillow images need Pillow and numpy.",
            "Install qied-client[pictures], or give a picture file.",
        ) from None
    except InvalidRequest as error:
        error.details["field"] = option
        raise


def _refused(message: str, remedy: str, option: str) -> InvalidRequest:
    return InvalidRequest(message, remedy, field=option)

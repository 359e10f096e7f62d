"""Pictures as users have them (path, bytes, file, Pillow image, array) turned into the bytes of a picture file."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union

from qied_client.errors import BlobTooLarge, InvalidRequest, SetupError, UnsupportedPicture
from qied_client.protocol import limits

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Picture = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "Image", "np.ndarray[Any, Any]"]
"""A file's path, its bytes, an open binary file, a Pillow image, or an array [height, width, 1|3|4] of uint8."""
Pictures = Picture | Sequence[Picture]


def picture_bytes(picture: Picture) -> bytes:
    """Bytes of a PNG, JPEG or WebP file; Pillow images and arrays are encoded as PNG.

    Raises InvalidRequest for a path that cannot be read or a type that is not a picture, BlobTooLarge above 64 MiB,
    SetupError for an array if Pillow is missing.
    """
    if isinstance(picture, (str, os.PathLike)):
        data = _read_file(Path(picture))
    elif isinstance(picture, (bytes, bytearray, memoryview)):
        data = bytes(picture)
    elif hasattr(picture, "__array_interface__") and not hasattr(picture, "save"):
        data = _encode_array(picture)
    elif hasattr(picture, "save"):
        data = _encode_image(picture)
    elif hasattr(picture, "read"):
        data = _read_open_file(picture)
    else:
        raise _refused(
            f"A {type(picture).__name__} is not a picture.",
            "Give a path, bytes, an open file, a Pillow image or a numpy array.",
        )
    if not data:
        raise UnsupportedPicture("The picture is empty.", "Give a PNG, JPEG or WebP file.")
    if len(data) > limits.BLOB_BYTES:
        raise BlobTooLarge(
            f"The picture has {len(data)} bytes or more; the limit is {limits.BLOB_BYTES}.", "Send a smaller file."
        )
    return data


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.BLOB_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(f"{path}: {reason}.", "Give the path of a picture file.") from error


def _read_open_file(file: Any) -> bytes:
    data = file.read(limits.BLOB_BYTES + 1)
    if not isinstance(data, bytes):
        raise _refused(f"The file returns {type(data).__name__}, not bytes.", "Open it with mode 'rb'.")
    return data


def _encode_image(image: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        image.save(buffer, format="PNG", compress_level=1)
    except (OSError, ValueError) as error:
        raise _refused(f"The image cannot be written as PNG: {error}.", "Convert it to RGB or RGBA first.") from error
    return buffer.getvalue()


def _encode_array(array: Any) -> bytes:
    try:
        from PIL import Image
    except ImportError:
        raise SetupError("Arrays need Pillow.", "Install qied-client[pictures], or give a picture file.") from None

    shape = tuple(array.shape)
    if str(array.dtype) != "uint8" or len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,), (4,)):
        raise _refused(
            f"An array of {array.dtype} with shape {list(shape)} is not a picture.",
            "Give uint8 of shape [height, width] or [height, width, 1, 3 or 4].",
        )
    if 0 in shape:
        raise _refused(f"An array of shape {list(shape)} has no pixels.", "Give a picture.")
    return _encode_image(Image.fromarray(array.reshape(shape[:2]) if shape[2:] == (1,) else array))


def _refused(message: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(message, remedy, field="images")

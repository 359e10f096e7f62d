"""Pictures as users have them (path, bytes, file, Pillow image, array) turned into the bytes of a picture file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union

from qied_client.errors import BlobTooLarge, InvalidRequest, UnsupportedPicture
from qied_client.protocol import limits

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Picture = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "Image", "np.ndarray[Any, Any]"]
"""A file's path, its bytes, an open binary file, a Pillow image, or an array [height, width, 1|3|4] of uint8."""


def picture_bytes(picture: Picture) -> bytes:
    """Bytes of a PNG, JPEG or WebP file; Pillow images and arrays are encoded as PNG.

    Raises InvalidRequest for a path that cannot be read or a type that is no picture, BlobTooLarge above 64 MiB.
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
        data = picture.read(limits.BLOB_BYTES + 1)
    else:
        raise InvalidRequest(
            f"A {type(picture).__name__} is no picture.",
            "Give a path, bytes, an open file, a Pillow image or a numpy array.",
            field="images",
        )
    if not data:
        raise UnsupportedPicture("The picture has no bytes.", "Give a PNG, JPEG or WebP file.")
    if len(data) > limits.BLOB_BYTES:
        raise BlobTooLarge(
            f"The picture has {len(data)} bytes or more; the limit is {limits.BLOB_BYTES}.", "Send a smaller file."
        )
    return data


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > limits.BLOB_BYTES:
            raise BlobTooLarge(
                f"{path} has {path.stat().st_size} bytes; the limit is {limits.BLOB_BYTES}.", "Send a smaller file."
            )
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidRequest(f"{path}: {reason}.", "Give the path of a picture file.", field="images") from error


def _encode_image(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _encode_array(array: Any) -> bytes:
    from PIL import Image

    if str(array.dtype) != "uint8" or array.ndim not in (2, 3):
        raise InvalidRequest(
            f"An array of {array.dtype} with {array.ndim} dimensions is no picture.",
            "Give uint8 of shape [height, width] or [height, width, 3 or 4].",
            field="images",
        )
    return _encode_image(Image.fromarray(array))

"""From an edit's pixels to the file of its result: opacity, metadata, marks, and a C2PA manifest if one is wanted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from qied_client.errors import PictureError
from qied_client.picture_file.marks import xmp_packet
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol.messages import MeasuredDrift

from qied.config.output import Marking
from qied.link import messages as w
from qied.pictures.encode import encode, encode_thumbnail
from qied.pictures.metadata import metadata_of
from qied.pictures.signing import NotSigned, signed
from qied.worker.carried import Carried

if TYPE_CHECKING:
    from PIL.Image import Image

_MEDIA_TYPES: Final = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_INPUT_TYPES: Final = {**_MEDIA_TYPES, "heif": "image/heic", "avif": "image/avif", "jxl": "image/jxl"}
UNSIGNED: Final = (
    "The result has no C2PA manifest, since it could not be signed; it keeps its other marks. "
    "The daemon's log says why. Ask the daemon's owner."
)


@dataclass(frozen=True)
class ResultFile:
    """A result as it goes to the front; ``thumbnail`` is a small JPEG, ``warnings`` came up while it was made."""

    data: bytes
    media_type: str
    thumbnail: bytes
    warnings: tuple[str, ...]


def result_file(
    begin: w.Begin,
    image: Image,
    model: str,
    carried: Carried,
    marking: Marking,
    inputs: Sequence[bytes] = (),
    drift: MeasuredDrift | None = None,
) -> ResultFile:
    """Encode a result of the model called ``model``, which is cut to its size and had this ``drift``.

    ``inputs`` are the files of its pictures, needed for signing.

    A result that cannot be signed is delivered without a signature, and says so.
    """
    warnings = carried.warnings
    spec = begin.spec.with_warnings(warnings)
    marks = carried.marks(spec, marking, begin.job)
    xmp = xmp_packet(marks)
    picture = carried.onto(image)
    metadata = metadata_of(spec, model, carried.original_prompt, drift)
    data = encode(picture, spec.output_format, metadata, spec.output_quality, xmp)
    media_type = _MEDIA_TYPES[spec.output_format]
    if marking.signs:
        try:
            data = signed(data, media_type, [*map(_with_type, inputs)], marking, marks.source_type, begin.job)
        except NotSigned as reason:
            structlog.get_logger(part="results").error("a result is not signed", job=begin.job, reason=str(reason))
            warnings = (*warnings, UNSIGNED)
    return ResultFile(data, media_type, encode_thumbnail(picture, xmp), warnings)


def _with_type(data: bytes) -> tuple[str, bytes]:
    try:
        return _INPUT_TYPES[read_header(io.BytesIO(data), PictureLimits()).format], data
    except PictureError:
        return "application/octet-stream", data

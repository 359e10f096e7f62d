"""What a picture file is, from its first bytes alone: format, size and orientation, and whether qied takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from qied_client.errors import PictureTooLarge, UnsupportedPicture
from qied_client.picture_header.bounded_reader import BoundedReader
from qied_client.picture_header.heif import scan_heif
from qied_client.picture_header.jpeg_xl import scan_jpeg_xl
from qied_client.picture_header.scanners import Scan, scan_jpeg, scan_png, scan_webp

PictureFormat = Literal["png", "jpeg", "webp", "heif", "avif", "jxl"]
FORMAT_NAMES: Final[Mapping[str, str]] = {
    "png": "PNG", "jpeg": "JPEG", "webp": "WebP", "heif": "HEIC", "avif": "AVIF", "jxl": "JPEG XL",
}  # fmt: skip
"""What people call them."""

_SNIFFED_BYTES = 64
_FOREIGN_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (4, b"ftyp", "a video"),
    (4, b"jP  \r\n", "a JPEG 2000 picture"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
"""Brands of still pictures, and of sequences, of which the main picture counts."""


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is taken: pixels in all, pixels a side, bytes of the encoded file."""

    max_pixels: int = 64_000_000
    max_side: int = 16_384
    max_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class PictureHeader:
    """Format, size in pixels as stored, and Exif orientation (1 is upright, 5 to 8 lie on their side).

    ``alpha``: whether it can be transparent somewhere; a PNG with a palette counts as one that can.
    """

    format: PictureFormat
    width: int
    height: int
    orientation: int
    alpha: bool = False

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height in pixels once the picture is turned upright."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(file: BinaryIO, limits: PictureLimits) -> PictureHeader:
    """Read the header of a picture from ``file``, which must be seekable and is read from its start.

    At most 1 MiB is looked at, 64 KiB at a time, whatever the file says; no pixel is decoded, and a JPEG's pixels are
    passed over only to count its scans. Of an animated PNG or WebP the first frame counts, as everywhere in qied.
    Raises UnsupportedPicture for anything else than PNG, JPEG, WebP, HEIC, AVIF and JPEG XL, PictureTooLarge above
    ``limits`` or without pixels, PictureTooCostly for a JPEG of too many scans, and PictureUnreadable for a truncated
    or damaged header.
    """
    reader = BoundedReader(file)
    _check_bytes(reader.size, limits)
    kind, scan = _recognise(reader.peek(_SNIFFED_BYTES))
    width, height, orientation, alpha = scan(reader)
    header = PictureHeader(kind, width, height, orientation, alpha)
    _check_size(header.width, header.height, limits)
    return header


def _recognise(start: bytes) -> tuple[PictureFormat, Callable[[BoundedReader], Scan]]:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", scan_png
    if start.startswith(b"\xff\xd8\xff"):
        return "jpeg", scan_jpeg
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp", scan_webp
    if start[4:8] == b"ftyp" and (brands := _brands(start)):
        if _AVIF & brands:
            return "avif", scan_heif
        if _HEIF & brands:
            return "heif", scan_heif
    if start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "jxl", scan_jpeg_xl
    raise UnsupportedPicture(
        f"The file is {_describe(start)}, not a PNG, JPEG, WebP, HEIC, AVIF or JPEG XL picture.",
        "Convert it to PNG, JPEG or WebP first.",
    )


def _brands(start: bytes) -> set[bytes]:
    """What the first box of a file says that it is: the main brand, and those that it is compatible with."""
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}


def _describe(start: bytes) -> str:
    """What a file that begins with ``start`` seems to be, with an article."""
    if not start:
        return "empty"
    for offset, signature, name in _FOREIGN_SIGNATURES:
        if start.startswith(signature, offset):
            return name
    text = start.decode("utf-8", "ignore")
    if b"<svg" in start or start.startswith(b"<?xml"):
        return "an SVG or other XML document"
    if len(text.encode()) >= len(start) - 3 and all(
        character.isprintable() or character.isspace() for character in text
    ):
        return "a text file"
    return f"of an unknown kind (it begins with {start[:8].hex(' ')})"


def _check_bytes(size: int, limits: PictureLimits) -> None:
    if size > limits.max_bytes:
        raise PictureTooLarge(
            f"The picture's file has {size:,} bytes; the limit is {limits.max_bytes:,}.",
            "Save it with stronger compression or at a smaller size.",
            bytes=size,
            max_bytes=limits.max_bytes,
        )


def _check_size(width: int, height: int, limits: PictureLimits) -> None:
    if width == 0 or height == 0:
        raise PictureTooLarge(
            f"The picture is {width} x {height} pixels: it is empty.",
            "Export it again.",
            width=width,
            height=height,
        )
    if max(width, height) > limits.max_side:
        raise PictureTooLarge(
            f"The picture is {width} x {height} pixels; the limit is {limits.max_side} pixels a side.",
            "Scale it down first.",
            width=width,
            height=height,
            max_side=limits.max_side,
        )
    if width * height > limits.max_pixels:
        raise PictureTooLarge(
            f"The picture is {width} x {height} = {width * height:,} pixels; the limit is {limits.max_pixels:,}.",
            "Scale it down first.",
            width=width,
            height=height,
            max_pixels=limits.max_pixels,
        )

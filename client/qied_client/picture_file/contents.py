"""The texts and marks of one picture file, as PNG chunks, Exif and XMP; writing Exif needs Pillow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from qied_client.picture_metadata import EXIF_PREFIX, PNG_KEY

if TYPE_CHECKING:
    from PIL import Image

PARAMETERS: Final = "parameters"
_PROMPT: Final = "prompt"
_WORKFLOW: Final = "workflow"
_XMP: Final = "XML:com.adobe.xmp"
_UTF16: Final = b"UNICODE\0"
_SRGB_PERCEPTUAL: Final = b"\0"
JPEG_EXIF_BYTES: Final = 65_533 - len(b"Exif\0\0")
"""What one segment of a JPEG holds."""
_MAKE: Final = 0x010F
_MODEL: Final = 0x0110
_IMAGE_DESCRIPTION: Final = 0x010E
_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_UNDEFINED: Final = 7


@dataclass(frozen=True)
class Contents:
    """``qied`` is the JSON that ``read_metadata`` reads, ``parameters`` A1111's text.

    ``prompt`` is ComfyUI's graph as its API takes it, ``workflow`` the same as its page saves it. ``xmp`` is a packet
    of marks. What is empty is not written.
    """

    qied: str = ""
    parameters: str = ""
    prompt: str = ""
    workflow: str = ""
    xmp: bytes = b""

    def png_chunks(self) -> Iterator[tuple[bytes, bytes]]:
        """The type and the bytes of each chunk: that colours are sRGB, the texts, and the XMP packet."""
        yield b"sRGB", _SRGB_PERCEPTUAL
        for key, text in ((PARAMETERS, self.parameters), (PNG_KEY, self.qied)):
            if text:
                yield b"iTXt", _international(key, _without_nul(text).encode("utf-8", "replace"))
        for key, graph in ((_PROMPT, self.prompt), (_WORKFLOW, self.workflow)):
            if graph:
                # ASCII, and of a kind that every reader of ComfyUI's graphs knows.
                yield b"tEXt", key.encode() + b"\0" + graph.encode("ascii")
        if self.xmp:
            yield b"iTXt", _international(_XMP, self.xmp)

    def exif(self, most_bytes: int | None = None) -> bytes:
        """A block for WebP and JPEG: the text as user comment, ours as "qied:...", the graph as "prompt:..." and so on.

        Where it would have more than ``most_bytes``, the graph is left out, its longer form first, and then the text.
        Raises ValueError where qied's own JSON is too long by itself.
        """
        less = replace(self, workflow="")
        for contents in (self, less, replace(less, prompt=""), replace(less, prompt="", parameters="")):
            block = contents._exif()
            if most_bytes is None or len(block) <= most_bytes:
                return block
        raise ValueError(f"what describes the picture has {len(block)} bytes, and {most_bytes} fit")

    def _exif(self) -> bytes:
        from PIL import Image

        exif = Image.Exif()
        if self.qied:
            exif[_IMAGE_DESCRIPTION] = EXIF_PREFIX + self.qied
        if self.prompt:
            exif[_MODEL] = f"{_PROMPT}:{self.prompt}"
        if self.workflow:
            exif[_MAKE] = f"{_WORKFLOW}:{self.workflow}"
        if self.parameters:
            comment = _without_nul(self.parameters).encode("utf-16-be", "replace")
            exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _UTF16 + comment
        return _with_typed_comment(exif.tobytes())


def contents_of(picture: Image.Image) -> Contents:
    """What qied wrote into a picture that Pillow has loaded, but for the marks; empty where it is another's."""
    info = picture.info
    qied, text, *graphs = (info.get(key) for key in (PNG_KEY, PARAMETERS, _PROMPT, _WORKFLOW))
    if isinstance(qied, str) or isinstance(text, str):
        prompt, workflow = (str(graph) if isinstance(graph, str) and graph.isascii() else "" for graph in graphs)
        return Contents(
            str(qied) if isinstance(qied, str) else "",
            str(text) if isinstance(text, str) else "",
            prompt,
            workflow,
        )
    if "exif" not in info:
        return Contents()
    exif = picture.getexif()
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if not isinstance(comment, bytes) or not comment.startswith(_UTF16):
        comment = _UTF16
    return Contents(
        _after(exif.get(_IMAGE_DESCRIPTION), EXIF_PREFIX),
        comment.removeprefix(_UTF16).decode("utf-16-be", "replace"),
        _after(exif.get(_MODEL), f"{_PROMPT}:"),
        _after(exif.get(_MAKE), f"{_WORKFLOW}:"),
    )


def _with_typed_comment(block: bytes) -> bytes:
    """An Exif block of Pillow's whose user comment has the type of the standard, "undefined".

    Pillow writes it as a list of numbers, and A1111's reader, piexif, gives numbers for that, which A1111 cannot read.
    """
    changed, start = bytearray(block), len(b"Exif\0\0")
    byte_order = "<" if block[start : start + 2] == b"II" else ">"

    def entry(folder: int, tag: int) -> int | None:
        (count,) = struct.unpack_from(f"{byte_order}H", block, folder)
        places = range(folder + 2, folder + 2 + count * 12, 12)
        return next((place for place in places if struct.unpack_from(f"{byte_order}H", block, place)[0] == tag), None)

    def offset(place: int) -> int:
        return start + int(struct.unpack_from(f"{byte_order}I", block, place)[0])

    below = entry(offset(start + 4), _EXIF_IFD)
    comment = None if below is None else entry(offset(below + 8), _USER_COMMENT)
    if comment is not None:
        struct.pack_into(f"{byte_order}H", changed, comment + 2, _UNDEFINED)
    return bytes(changed)


def _after(text: object, prefix: str) -> str:
    return text.removeprefix(prefix) if isinstance(text, str) and text.startswith(prefix) else ""


def _international(key: str, text: bytes) -> bytes:
    """An iTXt chunk's bytes: not compressed, of no language, without a translated key."""
    return struct.pack(f">{len(key)}s5x", key.encode("latin-1")) + text


def _without_nul(text: str) -> str:
    """``text`` with NUL, which ends a PNG text for many readers, as a space."""
    return text.replace("\0", " ")

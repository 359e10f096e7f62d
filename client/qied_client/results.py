"""Results with their bytes, and progress on the way."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qied_client.errors import InvalidRequest, SetupError

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {"image/png": (".png",), "image/webp": (".webp",), "image/jpeg": (".jpg", ".jpeg")}
"""Names that a picture may have; a JPEG is the first picture of a session, as it was uploaded."""


@dataclass(frozen=True)
class Progress:
    """One piece of news of an edit. Times are milliseconds, sizes are bytes; what does not apply is None or 0.

    ``kind`` is one of waiting (``note`` says for what), upload, queued, started, phase, step, preview, requeued and
    download. ``preview`` holds the bytes of a small JPEG.
    """

    kind: str
    done: int = 0
    total: int = 0
    phase: str = ""
    place: int | None = None
    starts_in_ms: int | None = None
    remaining_ms: int | None = None
    preview: bytes = b""
    note: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Result:
    """A finished edit: the encoded picture, and how it was made. ``timings`` are milliseconds by name."""

    bytes: bytes
    media_type: str
    width: int
    height: int
    seed: int
    timings: dict[str, Any]
    job: str
    turn: int | None = None

    @property
    def image(self) -> Image:
        """The picture as a Pillow image; needs the extra ``qied-client[pictures]``."""
        try:
            from PIL import Image
        except ImportError:
            raise SetupError(
                "Result.image needs Pillow.", "Install qied-client[pictures], or use .bytes or .save()."
            ) from None
        return Image.open(io.BytesIO(self.bytes))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as it came, through a temporary file next to it; returns the path.

        Raises InvalidRequest where the suffix names another format than the picture has, or nothing can be written
        there; a file that was there before is then as it was.
        """
        target = Path(path)
        suffixes = _SUFFIXES.get(self.media_type, ("",))
        if target.suffix.lower() not in suffixes:
            raise InvalidRequest(
                f"{target.name}: the result is {self.media_type}.", f"Choose a name that ends in {suffixes[0]}."
            )
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            part.write_bytes(self.bytes)
            part.replace(target)
        except OSError as error:
            raise InvalidRequest(
                f"{target}: {error.strerror}.", "Choose a place where files can be written."
            ) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return target

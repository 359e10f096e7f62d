"""Results with their bytes, and progress on the way."""

from __future__ import annotations

import builtins
import io
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qied_client.errors import InvalidRequest, PictureError, SetupError
from qied_client.protocol.messages import MeasuredDrift
from qied_client.system_failures import what_helps, with_home
from qied_client.text import counted

if TYPE_CHECKING:
    from PIL.Image import Image

    from qied_client.pixels.converted import Format

_FORMATS: Final[dict[str, Format]] = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
_MEDIA_TYPES: Final = {"PNG": "image/png", "WEBP": "image/webp", "JPEG": "image/jpeg"}


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        told = {each.name: getattr(self, each.name) for each in fields(self)[1:]}
        told = {name: value for name, value in told.items() if value not in (None, 0, "", b"")}
        if self.preview:
            told["preview"] = f"{len(self.preview)} bytes"
        return f"Progress({', '.join([self.kind, *(f'{name}={value}' for name, value in told.items())])})"


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, repr=False)
class Result:
    """A finished edit: the encoded picture, and how it was made.

    ``bytes`` are a file of ``media_type`` (image/png or image/webp), ``width`` and ``height`` its pixels. ``timings``
    are milliseconds by name. ``preset`` and ``schedule`` are empty where none was named. ``warnings`` say what was
    probably not meant so, and ``drift`` how far the picture had moved, where that could be measured. From ``steps`` on,
    a daemon of version 1 of the protocol tells nothing: 0, or empty.
    """

    bytes: bytes
    media_type: str
    width: int
    height: int
    seed: int
    timings: dict[str, Any]
    job: str
    turn: int | None = None
    steps: int = 0
    true_cfg_scale: float = 0.0
    precision: str = ""
    preset: str = ""
    schedule: str = ""
    warnings: tuple[str, ...] = ()
    drift: MeasuredDrift | None = None

    def __repr__(self) -> str:
        facts = [f"{self.width}x{self.height} {self.media_type}", f"seed {self.seed}"]
        facts += [counted(self.steps, "step")] if self.steps else []
        facts += [self.precision] if self.precision else []
        facts += [self.job] if self.turn is None else [self.job, f"turn {self.turn}"]
        facts += [counted(len(self.warnings), "warning")] if self.warnings else []
        return f"<Result {', '.join(facts)}>"

    def _repr_png_(self) -> builtins.bytes | None:
        """The picture for a notebook; a WebP needs Pillow."""
        if self.media_type == _MEDIA_TYPES["PNG"]:
            return self.bytes
        try:
            from qied_client.pixels.converted import converted

            return converted(self.bytes, "PNG")
        except (ImportError, InvalidRequest, PictureError):
            return None

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

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> Path:
        """Write the picture through a temporary file next to it; returns the path, with ``~`` as the home folder.

        A name that ends in the format that the picture has gets the bytes as they came. With Pillow, another of .png
        and .webp gets the same pixels, and .jpg a JPEG of ``quality`` 1 to 100 (default 95), each with how the picture
        was made. A WebP with ``quality`` is lossy as well.

        Raises InvalidRequest for another suffix, without Pillow for another format, for a quality that the format does
        not have, and where nothing can be written; a file that was there before is then as it was.
        """
        target = with_home(path)
        data = self._encoded_for(target, quality)
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            part.write_bytes(data)
            part.replace(target)
        except OSError as error:
            raise InvalidRequest(f"{target}: {error.strerror}.", what_helps(error)) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return target

    def _encoded_for(self, target: Path, quality: int | None) -> builtins.bytes:
        to = _FORMATS.get(target.suffix.lower())
        if to is None:
            raise InvalidRequest(
                f"{target.name}: results are saved as PNG, WebP or JPEG.",
                "Choose a name that ends in .png, .webp or .jpg.",
            )
        if quality is not None:
            _check_quality(target.name, to, quality)
        elif _MEDIA_TYPES[to] == self.media_type:
            return self.bytes
        try:
            from qied_client.pixels.converted import converted
        except ImportError:
            suffix = next((each for each, to in _FORMATS.items() if _MEDIA_TYPES[to] == self.media_type), "")
            raise InvalidRequest(
                f"{target.name}: the result is {self.media_type}, and converting it needs Pillow.",
                f"Choose a name that ends in {suffix}, without a quality, or install qied-client[pictures].",
            ) from None
        return converted(self.bytes, to, quality)


def _check_quality(name: str, to: Format, quality: object) -> None:
    if to == "PNG":
        raise InvalidRequest(
            f"{name}: a PNG has no quality, since it loses nothing.",
            "Leave the quality out, or choose a name that ends in .jpg or .webp.",
            field="quality",
        )
    if type(quality) is not int or not 1 <= quality <= 100:
        raise InvalidRequest(
            f"quality: must be an integer from 1 to 100, not {quality!r}.",
            "Leave it out for the default.",
            field="quality",
        )

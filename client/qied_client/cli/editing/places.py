"""Where results go: names with their number or seed, and whether a file can be written there."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.installing import pip_install
from qied_client.results import Result
from qied_client.system_failures import what_helps

FORMATS: Final = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Format of a file by its suffix."""
_WITHOUT_QUALITY: Final = {"jpeg": 95, "webp": 100}
"""What is asked for without --quality: a JPEG that shows no loss, and a WebP that has none."""
_QUALITY_SINCE: Final = 2
"""Version of the protocol from which on the daemon makes JPEGs, and pictures of a quality."""

_MOST = 100
"""Results of one command."""


@dataclass(frozen=True)
class Place:
    """The name that ``--out`` gives, for ``count`` results of ``quality`` (1 to 100; None: the usual one)."""

    out: Path
    count: int = 1
    quality: int | None = None

    @property
    def kind(self) -> str:
        """The format that the name asks for."""
        return FORMATS[self.out.suffix.lower()]

    def path(self, number: int, seed: int) -> Path:
        """The file of result ``number`` (from 1): ``{n}`` and ``{seed}`` stand for it and its seed, else -1, -2, ..."""
        name = self.out.name.replace("{n}", str(number)).replace("{seed}", str(seed))
        if name == self.out.name and self.count > 1:
            name = f"{self.out.stem}-{number}{self.out.suffix}"
        return self.out.with_name(name)

    def asks(self, version: int) -> dict[str, Any]:
        """The options by which a daemon that speaks ``version`` makes the file; raises InvalidRequest if it cannot.

        One that is too old makes what loses nothing, of which the file is made here.
        """
        if version >= _QUALITY_SINCE:
            options: dict[str, Any] = {"output_format": self.kind}
            if self.kind in _WITHOUT_QUALITY:
                options["output_quality"] = self.quality or _WITHOUT_QUALITY[self.kind]
            return options
        if (self.kind == "jpeg" or self.quality is not None) and find_spec("PIL") is None:
            raise InvalidRequest(
                f"{self.out.name}: this daemon is too old to make it, and here it needs Pillow.",
                f"Choose .png, or {pip_install('pillow')}",
                field="out",
            )
        return {"output_format": "webp" if self.kind == "webp" and self.quality is None else "png"}

    def save(self, result: Result, path: Path) -> None:
        """Write a result to its file; raises InvalidRequest."""
        result.save(path, quality=None if result.media_type == f"image/{self.kind}" else self.quality)

    def check(self) -> None:
        """Raise InvalidRequest where no result could be written there.

        A file is created in the folder and removed again: only that shows whether a file system is read-only.
        """
        suffix = self.out.suffix.lower()
        if not 1 <= self.count <= _MOST:
            raise InvalidRequest(
                f"--count: must be 1 to {_MOST}, not {self.count}.", "Give the number of variations.", field="count"
            )
        if self.out.is_dir():
            raise InvalidRequest(f"{self.out} is a folder.", f"Name a file in it: {self.out / 'out.png'}", field="out")
        if suffix not in FORMATS:
            raise InvalidRequest(
                f"{self.out.name}: results are saved as PNG, WebP or JPEG.",
                "Choose a name that ends in .png, .webp or .jpg.",
                field="out",
            )
        if self.quality is not None:
            if self.kind == "png":
                raise InvalidRequest(
                    f"{self.out.name}: a PNG has no quality, since it loses nothing.",
                    "Leave --quality out, or choose a name that ends in .jpg or .webp.",
                    field="output_quality",
                )
            if not 1 <= self.quality <= 100:
                raise InvalidRequest(
                    f"--quality: must be 1 to 100, not {self.quality}.",
                    "Leave it out for the usual one.",
                    field="output_quality",
                )
        folder = self.out.parent
        if not folder.is_dir():
            raise InvalidRequest(
                f"{self.out}: there is no folder {folder}.", "Create it first, or choose another.", field="out"
            )
        _try_to_write(self.out)


def _try_to_write(out: Path) -> None:
    probe = out.with_name(f".{secrets.token_hex(8)}.part")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise InvalidRequest(
            f"{out}: no file can be written there: {error.strerror}.", what_helps(error), field="out"
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)

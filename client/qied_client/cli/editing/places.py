"""Where results go: names with their number or seed, and whether a file can be written there."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qied_client.errors import InvalidRequest
from qied_client.system_failures import what_helps

FORMATS = {".png": "png", ".webp": "webp"}
"""Formats of results by the suffix of their names."""

_MOST = 100
"""Results of one command."""


@dataclass(frozen=True)
class Place:
    """The name that ``--out`` gives, for ``count`` results."""

    out: Path
    count: int = 1

    def path(self, number: int, seed: int) -> Path:
        """The file of result ``number`` (from 1): ``{n}`` and ``{seed}`` stand for it and its seed, else -1, -2, ..."""
        name = self.out.name.replace("{n}", str(number)).replace("{seed}", str(seed))
        if name == self.out.name and self.count > 1:
            name = f"{self.out.stem}-{number}{self.out.suffix}"
        return self.out.with_name(name)

    def checked(self) -> str:
        """Format that the name asks for; raises InvalidRequest where no result could be written there.

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
                f"{self.out.name}: results are PNG or WebP.", "Choose a name that ends in .png or .webp.", field="out"
            )
        folder = self.out.parent
        if not folder.is_dir():
            raise InvalidRequest(
                f"{self.out}: there is no folder {folder}.", "Create it first, or choose another.", field="out"
            )
        _try_to_write(self.out)
        return FORMATS[suffix]


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

"""A watched folder: its pictures as they come, each once it is whole."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from qied_client.batch.report import is_sheet
from qied_client.batch.sources import PICTURE_SUFFIXES
from qied_client.errors import InvalidRequest
from qied_client.system_failures import what_helps

_POLL_S: Final = 1.0
_QUIET_S: Final = 2.0
"""A file whose size and time have not changed for so long is taken for whole, if its picture can be decoded."""
_BROKEN_S: Final = 60.0
"""One that still cannot be decoded after so long is handed in as it is, and fails with the reason."""
_Seen = tuple[int, int]


class Watch:
    """The pictures of a folder, those that are there first; ends when ``stop`` is set.

    Folders are asked again and again, which also works on network drives. A picture that is replaced later comes again.
    """

    def __init__(
        self,
        folder: Path,
        stop: threading.Event,
        *,
        poll_s: float = _POLL_S,
        quiet_s: float = _QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not folder.is_dir():
            raise InvalidRequest(f"{folder} is not a folder.", "Name the folder to watch.", field="sources")
        self._folder = folder
        self._stop = stop
        self._poll_s = poll_s
        self._quiet_s = quiet_s
        self._clock = clock
        self._since: dict[str, tuple[_Seen, float]] = {}
        self._given: dict[str, _Seen] = {}

    def __iter__(self) -> Iterator[Path]:
        while not self._stop.is_set():
            yield from self.look()
            self._stop.wait(self._poll_s)

    def look(self) -> list[Path]:
        """Look once; returns those that have become whole since."""
        now = self._clock()
        present: dict[str, tuple[_Seen, float]] = {}
        whole: list[Path] = []
        for name, seen in self._listed():
            if self._given.get(name) == seen:
                continue
            known = self._since.get(name)
            since = known[1] if known is not None and known[0] == seen else now
            present[name] = (seen, since)
            quiet = now - since
            path = self._folder / name
            if quiet >= self._quiet_s and (quiet >= _BROKEN_S or is_whole(path)):
                self._given[name] = seen
                whole.append(path)
        self._since = present
        return whole

    def _listed(self) -> list[tuple[str, _Seen]]:
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or not entry.name.lower().endswith(PICTURE_SUFFIXES):
                        continue
                    try:
                        if entry.is_file() and not is_sheet(Path(entry.path)):
                            facts = entry.stat()
                            found.append((entry.name, (facts.st_size, facts.st_mtime_ns)))
                    except OSError:  # it is gone again
                        continue
        except OSError as error:
            raise InvalidRequest(f"{self._folder}: {error.strerror}.", what_helps(error), field="sources") from error
        here = {name for name, _ in found}
        self._given = {name: seen for name, seen in self._given.items() if name in here}
        return sorted(found)


def is_whole(path: Path) -> bool:
    """Whether a picture can be decoded to its end; without Pillow, whether it has bytes."""
    try:
        if path.stat().st_size == 0:
            return False
        if find_spec("PIL") is None:
            return True
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                image.load()
        except UnidentifiedImageError:  # of a format that Pillow does not read here; the daemon may
            return True
    except (OSError, ValueError, SyntaxError):
        return False
    return True

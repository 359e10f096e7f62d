"""Pictures that users have sent: in a temporary folder, each user's apart, within limits of bytes, count and age."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.names import PictureName

USER_BYTES: Final = 512 * 1024 * 1024
USER_FILES: Final = 500
ALL_BYTES: Final = 4 * 1024**3
"""Bytes of the pictures of all users together."""
AGE_S: Final = 24 * 3600.0


@dataclass(frozen=True)
class UploadLimits:
    """Most bytes and files of one user, bytes of all users, and seconds that a picture is kept after its last use."""

    user_bytes: int = USER_BYTES
    user_files: int = USER_FILES
    all_bytes: int = ALL_BYTES
    age_s: float = AGE_S


@dataclass
class _Upload:
    path: Path
    digest: str
    size: int
    used_at: float


class Uploads:
    """The pictures of all users by their names. What is over a limit goes, the one that was used longest ago first.

    A picture that would not fit alone is refused. Blocking, and for any thread.
    """

    def __init__(
        self, folder: Path, limits: UploadLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._limits = limits or UploadLimits()
        self._clock = clock
        self._users: dict[str, dict[PictureName, _Upload]] = {}
        self._lock = threading.RLock()

    def add(self, user: str, name: PictureName, data: bytes, *, overwrite: bool) -> PictureName:
        """Keep a picture; returns its name, another one where a different picture has that and stays.

        Raises ComfyError for one that is larger than all of a user's may be.
        """
        if len(data) > min(self._limits.user_bytes, self._limits.all_bytes):
            raise ComfyError("too_large", f"The picture has {len(data)} bytes, more than are kept.", status=413)
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            return self._added(user, name, data, digest, overwrite=overwrite)

    def _added(self, user: str, name: PictureName, data: bytes, digest: str, *, overwrite: bool) -> PictureName:
        self._forget_old()
        own = self._users.setdefault(user, {})
        if not overwrite:
            name, there = self._free_name(own, name, digest)
            if there:
                own[name].used_at = self._clock()
                return name
        if (old := own.pop(name, None)) is not None:
            old.path.unlink(missing_ok=True)
        self._make_room(user, len(data))
        path = self._folder / secrets.token_hex(16)
        path.write_bytes(data)
        self._users.setdefault(user, {})[name] = _Upload(path, digest, len(data), self._clock())
        return name

    def path(self, user: str, name: PictureName) -> Path | None:
        """The file of a picture, which counts as used now; None where there is none of that name."""
        with self._lock:
            self._forget_old()
            found = self._users.get(user, {}).get(name)
            if found is None:
                return None
            found.used_at = self._clock()
            return found.path

    def read(self, user: str, name: PictureName) -> bytes | None:
        """The bytes of a picture, which counts as used now; None where there is none of that name."""
        with self._lock:
            path = self.path(user, name)
            return None if path is None else path.read_bytes()

    def names(self, user: str, folder: str = "input") -> list[PictureName]:
        """The names of a user's pictures in a folder."""
        with self._lock:
            self._forget_old()
            found = [name for name in self._users.get(user, {}) if name.folder == folder]
        return sorted(found, key=lambda name: name.in_graphs)

    def bytes_of(self, user: str) -> int:
        """Bytes of a user's pictures."""
        with self._lock:
            return sum(each.size for each in self._users.get(user, {}).values())

    def _free_name(self, own: dict[PictureName, _Upload], name: PictureName, digest: str) -> tuple[PictureName, bool]:
        """The name, or with a number behind it, that is free or has the very picture; and whether that is there."""
        stem, dot, suffix = name.filename.rpartition(".")
        stem, suffix = (stem, dot + suffix) if stem else (name.filename, "")
        number, wanted = 0, name
        while (there := own.get(wanted)) is not None and there.digest != digest:
            number += 1
            wanted = PictureName(name.folder, name.subfolder, f"{stem} ({number}){suffix}")
        return wanted, there is not None

    def _make_room(self, user: str, size: int) -> None:
        limits = self._limits
        while self.bytes_of(user) + size > limits.user_bytes or len(self._users[user]) >= limits.user_files:
            self._drop_oldest(user)
        while sum(map(self.bytes_of, self._users)) + size > limits.all_bytes:
            self._drop_oldest(max(self._users, key=self.bytes_of))

    def _drop_oldest(self, user: str) -> None:
        own = self._users[user]
        name = min(own, key=lambda each: own[each].used_at)
        own.pop(name).path.unlink(missing_ok=True)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._limits.age_s
        for own in self._users.values():
            for name in [name for name, each in own.items() if each.used_at < oldest]:
                own.pop(name).path.unlink(missing_ok=True)

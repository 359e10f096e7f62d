"""Bearer tokens of the gateway: shown once, stored as hashes, each bound to an enrolled user."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Final

from filelock import FileLock, Timeout

from qied_client.errors import ConfigError, InvalidRequest
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, Identifier

PREFIX: Final = "qied-"
"""What a token begins with, so that a scanner of secrets recognises one that was published by mistake."""
_SECRET_BYTES: Final = 32
_MAX_BYTES: Final = 1024 * 1024
_VERSION: Final = 1
_LOCK_S: Final = 10.0
"""Seconds to wait for another process that changes the file."""


@dataclass(frozen=True)
class Token:
    """One token as it is stored. ``digest`` is the SHA-256 (hex) of the whole token, which is random and needs no salt.

    ``id`` names it in lists; ``added_at`` is in seconds since the epoch.
    """

    id: str
    user: str
    digest: str
    added_at: float
    note: str = ""

    def typed(self) -> Iterator[tuple[object, type | UnionType]]:
        """Each value with the type that it must have."""
        yield from ((value, str) for value in (self.id, self.user, self.digest, self.note))
        yield self.added_at, int | float


class TokenStore:
    """The tokens in one file of mode 0600. Changes made by another process count with the next lookup. Blocking.

    Changes are made one at a time, whichever process makes them, so that none is lost. Raises ConfigError for a file
    that is damaged, cannot be read, or can be read by others.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, ...] | None = None
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    def add(self, user: str, note: str = "") -> tuple[str, Token]:
        """Make a token for ``user``; returns the token itself, which is kept nowhere, and what is stored of it.

        Raises InvalidRequest for a name that no enrolled user can have.
        """
        try:
            Identifier(limits.ID_CHARS)(user)
        except FieldError as error:
            raise InvalidRequest(f"{user[:80]!r} {error.problem}.", "Name an enrolled client.", field="name") from None
        text = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(secrets.token_hex(4), user, _digest(text), self._clock(), note)
        with self._lock, self._alone():
            self._write([*self._read().values(), token])
        return text, token

    def all(self) -> tuple[Token, ...]:
        """All tokens, the oldest first."""
        with self._lock:
            return tuple(sorted(self._read().values(), key=lambda token: token.added_at))

    def remove(self, name: str) -> tuple[Token, ...]:
        """Remove the token with this id, or all of a user's; returns what was removed."""
        with self._lock, self._alone():
            tokens = self._read().values()
            removed = tuple(token for token in tokens if name in (token.id, token.user))
            if removed:
                self._write([token for token in tokens if token not in removed])
        return removed

    def find(self, text: str) -> Token | None:
        """The stored token that ``text`` is, or None. Looked up by its hash, so the time tells nothing of others."""
        with self._lock:
            return self._read().get(_digest(text))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process changes the file meanwhile; raises ConfigError."""
        file = self._path.with_name(f".{self._path.name}.lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(file, timeout=_LOCK_S, mode=0o600):
                self._stamp = None
                yield
        except Timeout as error:
            raise self._unusable("is being changed by another process", "Try again.") from error
        except OSError as error:
            raise self._unusable(f"cannot be locked: {error.strerror}") from error

    def _read(self) -> dict[str, Token]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._tokens = None, {}
            return self._tokens
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            if os.name == "posix" and status.st_mode & 0o077:
                raise self._unusable("is open to other users of this machine", f"Run: chmod 600 {self._path}")
            self._tokens = self._load()
            self._stamp = stamp
        return self._tokens

    def _load(self) -> dict[str, Token]:
        try:
            with self._path.open("rb") as file:
                content = json.loads(file.read(_MAX_BYTES))
            if content["version"] != _VERSION:
                raise self._unusable(f"has version {content['version']}, and this gateway reads {_VERSION}")
            tokens = [Token(**fields) for fields in content["tokens"]]
            if not all(isinstance(value, kind) for each in tokens for value, kind in each.typed()):
                raise TypeError
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._unusable("is damaged", "Restore it from a backup, or remove it and make new tokens.") from error
        return {token.digest: token for token in tokens}

    def _write(self, tokens: list[Token]) -> None:
        content = {"version": _VERSION, "tokens": [asdict(token) for token in tokens]}
        data = json.dumps(content, indent=1).encode()
        if len(data) > _MAX_BYTES:
            raise self._unusable("is full", "Remove tokens that are no longer used.")
        part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            raise self._unusable(f"cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        self._stamp = None

    def _unusable(self, why: str, remedy: str = "Give the user that runs the gateway access to it.") -> ConfigError:
        return ConfigError(f"{self._path} {why}.", remedy)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

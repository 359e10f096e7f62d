"""Writes files whole or not at all, and syncs them and their names to the disk itself, to survive a power loss."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NOT_KNOWN = {errno.ENOTSUP, errno.EINVAL, errno.ENOTTY}
"""Errors by which a file system, such as a network share, says that it cannot sync."""


def sync_file(descriptor: int) -> None:
    """Wait until all that was written to an open file (or named in an open folder) is on the disk; raises OSError.

    On macOS fsync ends at the drive's own cache, which loses power with the rest; there the drive is asked to flush it.
    """
    if sys.platform != "win32" and (full_sync := getattr(fcntl, "F_FULLFSYNC", None)) is not None:
        try:
            fcntl.fcntl(descriptor, full_sync)
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Bring names made, moved or removed in the folder ``path`` to the disk; raises OSError.

    Windows, and some shares on the network, sync no folders: there the file system is left to do it.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(descriptor)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make the folder ``path`` and its missing parents, with mode 0700, and bring their names to the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_folder(path.parent)


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path`` for a file that takes its name inside; then sync the name to the disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600 that is on the disk afterwards; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in place of the one that may be there; raises OSError.

    A reader, and the next start after a power loss, sees the old file or the new one.
    """
    with draft_of(path) as draft:
        write_synced(draft, data)
        draft.replace(path)

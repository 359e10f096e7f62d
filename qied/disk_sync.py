"""Syncs files and names to the disk itself, so that they survive a power loss."""

from __future__ import annotations

import errno
import os
import sys
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

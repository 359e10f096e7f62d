"""Files and folders that only their owner can read, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from pathlib import Path

from qied_client.errors import ConfigError

from qied.disk_sync import make_folder, sync_file, sync_folder

_OTHERS = 0o077


def private_folder(path: Path) -> Path:
    """Make ``path`` (and its parents) with mode 0700; raises ConfigError where others can enter an existing one."""
    make_folder(path)
    refuse_access_by_others(path, "700")
    return path


def refuse_access_by_others(path: Path, wanted_mode: str) -> None:
    """Raise ConfigError, with the command that helps, where group or others have any right to ``path`` (POSIX)."""
    if sys.platform == "win32":
        return
    mode = path.stat().st_mode & 0o777
    if mode & _OTHERS:
        raise ConfigError(
            f"{path} is open to other users of this machine (mode {mode:o}).",
            f"Run: chmod {wanted_mode} {shlex.quote(str(path))}",
            path=str(path),
            mode=f"{mode:o}",
        )


def create_private(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600; it appears with all of ``data``. Raises FileExistsError where there is one."""
    draft = _draft(path, data)
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)


def replace_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in place of the one that may be there; a reader sees the old or the new one."""
    draft = _draft(path, data)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    sync_folder(path.parent)


def _draft(path: Path, data: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            sync_file(file.fileno())
    except OSError:
        draft.unlink()
        raise
    return draft

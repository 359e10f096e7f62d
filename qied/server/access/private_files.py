"""Files and folders that only their owner can read, written whole or not at all."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qied_client.credentials import MOUNT_OPTION, OTHERS, WITHOUT_MODES, keeps_modes
from qied_client.errors import ConfigError, SetupError
from qied_client.system_failures import what_helps

from qied.disk_sync import draft_of, make_folder, replace_file, write_synced


def private_folder(path: Path) -> Path:
    """Make ``path`` (and its parents) with mode 0700.

    Raises ConfigError where others can enter an existing one, SetupError where it cannot be made.
    """
    try:
        make_folder(path)
    except OSError as error:
        raise _not_written(path, error) from error
    refuse_access_by_others(path, "700")
    return path


def refuse_access_by_others(path: Path, wanted_mode: str) -> None:
    """Raise ConfigError, with the command that helps, where group or others have any right to ``path`` (POSIX)."""
    if sys.platform == "win32":
        return
    mode = path.stat().st_mode & 0o777
    if mode & OTHERS:
        raise ConfigError(
            f"{path} is open to other users of this machine (mode {mode:o}).",
            closing_others_out(path, f"Run: chmod {wanted_mode} {shlex.quote(str(path))}"),
            path=str(path),
            mode=f"{mode:o}",
        )


def closing_others_out(path: Path, command: str) -> str:
    """The remedy for a file or folder that others can open: ``command``, unless the file system keeps no modes."""
    if keeps_modes(path if path.is_dir() else path.parent):
        return command
    return f"{WITHOUT_MODES} Name a folder on another one with --home or QIED_HOME, {MOUNT_OPTION}."


def create_private(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600; it appears with all of ``data``, and stays after a loss of power.

    Where the file system has no hard links it is there, and empty, a moment before. Raises FileExistsError where there
    is one, SetupError where it cannot be written.
    """
    with _typed_failures(path), draft_of(path) as draft:
        write_synced(draft, data)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # exFAT, FAT and some network shares have no hard links
            _move_to_new_name(draft, path)


def replace_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in place of the one that may be there; a reader sees the old or the new one.

    Raises SetupError where it cannot be written.
    """
    with _typed_failures(path):
        replace_file(path, data)


@contextmanager
def _typed_failures(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _not_written(path, error) from error


def _move_to_new_name(draft: Path, path: Path) -> None:
    """Take the name first, so that only one of two writers gets it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        draft.replace(path)
    except OSError:
        path.unlink()
        raise


def _not_written(path: Path, error: OSError) -> SetupError:
    culprit = "" if error.filename in (None, str(path)) else f" ({error.filename})"
    return SetupError(
        f"{path} cannot be written: {error.strerror or error}{culprit}.",
        what_helps(error),
        path=str(path),
    )

"""Errors of the operating system in words: what helps against each, and folders of a user that has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from qied_client.errors import ConfigError, SetupError

_REMEDIES: Final = {
    errno.ENOENT: "Check the name, or create it first.",
    errno.EACCES: "Give your user permission there, or choose another place.",
    errno.EPERM: "Give your user permission there, or choose another place.",
    errno.EROFS: "Its file system is read-only: choose another place, or mount it for writing.",
    errno.ENOTDIR: "A part of this path is a file: move it away, or choose another place.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.EEXIST: "A file, or a link to nothing, has this name: move it away, or choose another place.",
    errno.ELOOP: "Its links lead in a circle: remove one, or choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOSPC: "Free space on that disk, or choose another place.",
    errno.EDQUOT: "Free space within your quota, or choose another place.",
    errno.EMFILE: "Raise the limit of open files, such as with: ulimit -n 4096",
    errno.ENFILE: "Close other programs: the whole system has too many open files.",
    errno.ENOLCK: "Choose a place on a disk of this machine: the file system has no locks.",
    errno.EIO: "Check that disk.",
    errno.EADDRINUSE: "Another program listens there: choose another address, or stop that program.",
}


def what_helps(error: OSError) -> str:
    """What to do about an error of the operating system."""
    return _REMEDIES.get(error.errno or 0, "Check the place that is named, or choose another one.")


def system_failure(error: OSError, path: Path | None = None) -> SetupError:
    """The typed error for one that no closer place has put into words."""
    where = path or error.filename2 or error.filename
    reason = error.strerror or str(error) or type(error).__name__
    message = reason if where is None else f"{where}: {reason}"
    return SetupError(f"{message}.", what_helps(error), **({} if where is None else {"path": str(where)}))


def user_home() -> Path:
    """The home folder; raises ConfigError where nothing tells it, as for a user of a container without a name."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigError(
            "The home folder of this user is not known: HOME is not set, and the system has no entry for the user.",
            "Set HOME to a folder of this user: export HOME=/path/to/folder",
        ) from error


def expanded(path: Path) -> Path:
    """``path`` with the home folder in place of ``~``; raises ConfigError where that is not known."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: the home folder that it begins with is not known.", "Write the whole path."
        ) from error


def with_home(path: str | os.PathLike[str]) -> Path:
    """``path`` with the home folder in place of a first part ``~`` or ``~user``; as it is where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)

"""The lock that keeps a second daemon off a state folder."""

from __future__ import annotations

import os
from pathlib import Path

from qied_client.errors import ConfigError

from qied.file_lock import try_lock


class DaemonLock:
    """Held from construction until ``release`` or the end of the process, however that comes.

    The file stays: to delete it would let two daemons hold locks on two files of one name. Workers are started by exec,
    so they do not keep the lock of a daemon that was killed.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock; raises ConfigError that names the process where another daemon holds it."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if not try_lock(self._descriptor):
            holder = os.pread(self._descriptor, 32, 0)
            os.close(self._descriptor)
            raise _refusal(path, holder)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another daemon in; to be called once."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _refusal(path: Path, holder: bytes) -> ConfigError:
    pid = int(holder) if holder.isdigit() else None
    who = f"process {pid}" if pid is not None else "a process that is just starting or ending"
    return ConfigError(
        f"Another daemon ({who}) already uses the state folder {path.parent}.",
        "Stop that daemon, or give this one a state folder of its own.",
        path=str(path),
        pid=pid,
    )

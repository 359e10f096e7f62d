"""What the operating system says of the daemon's disk, as typed errors: what passes can be tried again."""

from __future__ import annotations

import errno

from qied_client.errors import BlobError, DiskFull, DiskUnavailable, QiedError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
NO_ACCESS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_AWAY = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOLCK})

PASSING = (DiskFull, DiskUnavailable)
"""Errors that an accepted job waits out."""


def disk_failure(what: str, error: OSError) -> QiedError:
    """The typed error for a file of the daemon; ``what`` is how its sentence begins, as "The blob was not written"."""
    reason = error.strerror or str(error)
    if error.errno in NO_SPACE:
        return DiskFull(f"{what}: {reason}.", "Free space on the daemon's disk, then try again.")
    if error.errno in NO_RESOURCES:
        return DiskUnavailable(
            f"{what}: {reason}.",
            "Try again in a moment. If it stays so, raise the daemon's limit of open files (ulimit -n, LimitNOFILE=).",
        )
    if error.errno in NO_ACCESS:
        return DiskUnavailable(
            f"{what}: {reason}.",
            "Make the daemon's state folder writable for its user again (mount -o remount,rw), then try again.",
        )
    if error.errno in _AWAY:
        return DiskUnavailable(f"{what}: {reason}.", "Try again once the daemon's disk answers.")
    return BlobError(f"{what}: {reason}.", "Check the daemon's disk, and see the daemon's log.")

"""Locks on open files, which the system releases when their process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows locks are mandatory: a byte past what anybody writes is locked, so that the file stays readable.
_LOCKED_BYTE = 4096
_HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})


def try_lock(descriptor: int) -> bool:
    """Take the one lock on a file; False where another open file holds it. Closing the descriptor lets go of it.

    Raises OSError where the file system has no locks, as NFS without its lock service.
    The lock belongs to the open file, so a child made by fork without exec would keep it.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def try_shared_lock(descriptor: int) -> bool:
    """Take a lock that others may take as well, and that keeps :func:`try_lock` out; False where somebody has that.

    Raises as :func:`try_lock`. Windows keeps a file that is open from being removed, which is what it is for.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True

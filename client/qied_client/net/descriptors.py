"""Checks for free file descriptors before libzmq opens a socket: without them it aborts the whole process."""

from __future__ import annotations

import os

from qied_client.errors import SocketUnavailable

FOR_A_CLIENT = 16
"""More than an event loop, a context with its threads, and an encrypted socket with its monitor take together (12)."""
FOR_A_SOCKET = 6
"""More than a socket with its monitor and its connection takes (4)."""


def require_descriptors(count: int) -> None:
    """See that as many can be opened; raises SocketUnavailable where a limit of this process or of the system is met.

    libzmq's threads assert that they get theirs, and an assertion of libzmq is an abort.
    """
    taken: list[int] = []
    try:
        for _ in range(count):
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise SocketUnavailable(
            f"This program has no file descriptors left to connect to the daemon: {error.strerror}.",
            "Close files or sockets that it keeps open, or raise its limit (ulimit -n).",
        ) from error
    finally:
        for descriptor in taken:
            os.close(descriptor)

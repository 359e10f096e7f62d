"""File descriptors that have to be free before libzmq is asked for a socket: without them it ends the whole process."""

from __future__ import annotations

import os

from qied_client.errors import SocketUnavailable

_NEEDED = 16
"""What an event loop, a context, an encrypted socket and its monitor take together is 15 at most."""


def require_descriptors() -> None:
    """See that enough can be opened; raises SocketUnavailable where the limit of this process, or the system's, is met.

    libzmq's io threads assert that they get theirs, and an assertion of libzmq is an abort.
    """
    taken: list[int] = []
    try:
        for _ in range(_NEEDED):
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise SocketUnavailable(
            f"This program has no file descriptors left for a connection to the daemon: {error.strerror}.",
            "Close files or sockets that it keeps open, or raise its limit (ulimit -n).",
        ) from error
    finally:
        for descriptor in taken:
            os.close(descriptor)

"""The exit statuses of ``qied`` and ``qied-client``; 0 means that all went well."""

from __future__ import annotations

from qied_client.errors import InvalidRequest, JobCancelled, PictureError, QiedError, SetupError, UnreachableError

FAILED = 1
"""What was asked for did not work; or the doctor or ``inspect`` found a problem."""
REFUSED = 2
"""The command line, the configuration or a picture is wrong, or no plan serves the model on this machine."""
UNREACHABLE = 3
"""No daemon answered."""
INTERRUPTED = 130
"""Ctrl-C, or the job was cancelled: what shells use for SIGINT."""

_OF_ERRORS = (
    (UnreachableError, UNREACHABLE),
    (InvalidRequest, REFUSED),
    (PictureError, REFUSED),
    (SetupError, REFUSED),
    (JobCancelled, INTERRUPTED),
)


def status_of(error: QiedError) -> int:
    """The exit status of a command that ends by a typed error."""
    return next((status for kind, status in _OF_ERRORS if isinstance(error, kind)), FAILED)

"""Failures of the hub, the network and the disk, as typed errors with remedies."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from qied_client.errors import DiskFull, DownloadFailed, ModelNotFound, QiedError

_AGAIN = "the same command resumes where this one stopped."


@contextmanager
def typed_failures(repository: str, endpoint: str | None = None) -> Iterator[None]:
    """Turn what the hub's library, the network and the disk raise into a QiedError about ``repository``."""
    hub = endpoint or constants.ENDPOINT
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise DownloadFailed(
            "The hub's library is set to work offline.", "Unset HF_HUB_OFFLINE, then try again."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(error, repository, hub) from error
    except (httpx.HTTPError, httpx.InvalidURL, LocalEntryNotFoundError) as error:
        raise DownloadFailed(
            f"{hub} cannot be reached, or stopped answering: {_cause(error)}.",
            f"Check the network (HTTPS_PROXY, HF_ENDPOINT); {_AGAIN}",
        ) from error
    except OSError as error:
        raise _disk_failure(error) from error


def _refused(error: HfHubHTTPError, repository: str, hub: str) -> QiedError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return DownloadFailed(
            f"{repository} is gated: only accounts with access can download it from {hub}.",
            f"Ask for access at {hub}/{repository}, then: hf auth login",
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | EntryNotFoundError) or status == 404:
        return ModelNotFound(
            f"{hub} has no {repository}, or not this revision or file.",
            "If it is private: hf auth login. Otherwise it was moved: look for a newer version of qied.",
        )
    if status in (401, 403):
        return DownloadFailed(
            f"{hub} refuses {repository} (HTTP {status}).",
            "Log in with an account that may read it: hf auth login",
        )
    return DownloadFailed(f"{hub} answers with HTTP {status}.", f"Try again later: {_AGAIN}")


def _cause(error: BaseException) -> str:
    """The innermost reason in words; the hub's own message for a file it could not look up names none."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().rstrip(".") or type(error).__name__


def _disk_failure(error: OSError) -> QiedError:
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {what}.", f"Free some space; {_AGAIN}")
    return DownloadFailed(
        f"{what}.", "Make it readable and writable for this user, or name another folder with --to or HF_HOME."
    )

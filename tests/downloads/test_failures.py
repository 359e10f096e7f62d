"""What the disk and the hub's library raise, as people are told of it."""

from __future__ import annotations

import errno
import os

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from qied_client.errors import DiskFull, DownloadFailed, QiedError

from qied.downloads.failures import typed_failures


def told(error: Exception) -> QiedError:
    with pytest.raises(QiedError) as caught, typed_failures("owner/name", "http://hub"):
        raise error
    return caught.value


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_becomes_full_meanwhile_is_told_as_one(number: int) -> None:
    found = told(OSError(number, os.strerror(number), "/models/blobs/a1"))
    assert isinstance(found, DiskFull)
    assert "/models/blobs/a1" in found.message
    assert "resumes where this one stopped" in found.remedy


def test_a_folder_that_may_not_be_written_is_named() -> None:
    found = told(PermissionError(errno.EACCES, "Permission denied", "/models"))
    assert isinstance(found, DownloadFailed)
    assert found.message == "/models: Permission denied."
    assert "--to" in found.remedy


def test_the_innermost_reason_is_told() -> None:
    error = LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub")
    error.__cause__ = OSError("Name or service not known")
    assert "http://hub cannot be reached, or stopped answering: Name or service not known." in told(error).message


def test_what_is_typed_already_stays_as_it_is() -> None:
    error = DownloadFailed("a", "b")
    assert told(error) is error

"""What was written is brought to the disk itself, by the order that the system has for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from qied.disk_sync import make_folder, sync_file, sync_folder

FULL_SYNC = 51
"""What macOS calls F_FULLFSYNC."""


class Orders:
    """The orders that a system was given, in place of carrying them out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: int | None) -> None:
        self.given: list[str] = []
        self._refusal = refusal
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_SYNC, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)
        monkeypatch.setattr(os, "fsync", lambda _: self.given.append("fsync"))

    def _fcntl(self, descriptor: int, order: int) -> int:
        assert order == FULL_SYNC and os.fstat(descriptor)
        self.given.append("full sync")
        if self._refusal is not None:
            raise OSError(self._refusal, os.strerror(self._refusal))
        return 0


@pytest.fixture
def descriptor(tmp_path: Path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_the_drive_empties_its_cache_where_the_system_can_ask_for_it(monkeypatch, descriptor, tmp_path):
    orders = Orders(monkeypatch, None)
    sync_file(descriptor)
    assert orders.given == ["full sync"]
    sync_folder(tmp_path)
    assert orders.given == ["full sync"] * 2


@pytest.mark.parametrize("refusal", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_that_order_gets_the_plain_one(monkeypatch, descriptor, refusal):
    orders = Orders(monkeypatch, refusal)
    sync_file(descriptor)
    assert orders.given == ["full sync", "fsync"]


def test_a_disk_that_fails_is_an_error_and_no_second_order_hides_it(monkeypatch, descriptor):
    orders = Orders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        sync_file(descriptor)
    assert orders.given == ["full sync"]


@pytest.mark.parametrize(("refusal", "raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_share_that_syncs_no_folders_is_left_to_itself_and_a_disk_that_fails_is_not(
    monkeypatch, tmp_path, refusal, raised
):
    def refuse(_: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("qied.disk_sync.sync_file", refuse)
    with pytest.raises(OSError, match="Input/output") if raised else nullcontext():
        sync_folder(tmp_path)


@pytest.mark.skipif(hasattr(fcntl, "F_FULLFSYNC"), reason="this system has the order itself")
def test_other_systems_get_the_plain_order(monkeypatch, descriptor):
    given = []
    monkeypatch.setattr(os, "fsync", given.append)
    sync_file(descriptor)
    assert given == [descriptor]


def test_missing_folders_are_made_for_their_owner_alone_and_each_name_is_brought_to_the_disk(monkeypatch, tmp_path):
    synced = []
    monkeypatch.setattr("qied.disk_sync.sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700] * 2
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2

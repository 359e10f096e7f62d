"""Private files appear whole, once, and for good; where they cannot be written, it is said what to do."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qied_client.credentials import read_credential
from qied_client.errors import ConfigError, CredentialsMissing, SetupError

from qied.server.access.private_files import create_private, private_folder, replace_private
from tests.lost_power import Disk, watching

WRITE = """
import sys
from pathlib import Path
from qied.server.access.private_files import create_private, private_folder, replace_private

folder = private_folder(Path(sys.argv[1]) / "home" / "keys")
create_private(folder / "created", b"one")
create_private(folder / "replaced", b"two")
replace_private(folder / "replaced", b"three")
"""
WITHOUT_LINKS = """
import errno, os

def refuse(*_):
    raise PermissionError(errno.EPERM, "Operation not permitted")

os.link = refuse
"""


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, as Linux presents exFAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("script", [WRITE, WITHOUT_LINKS + WRITE], ids=["hard links", "no hard links"])
def test_what_was_written_outlives_a_loss_of_power(tmp_path: Path, script: str) -> None:
    root, log = tmp_path.resolve() / "root", tmp_path / "calls"
    root.mkdir()
    subprocess.run([*watching(log), sys.executable, "-c", script, str(root)], check=True)
    disk = Disk.after(log, root)
    left = disk.leave(tmp_path / "left")
    assert disk.named_early == []
    keys = left / "home" / "keys"
    assert ((keys / "created").read_bytes(), (keys / "replaced").read_bytes()) == (b"one", b"three")


@pytest.mark.usefixtures("without_links")
class TestWithoutHardLinks:
    def test_a_file_is_written_for_its_owner_alone_and_no_draft_stays(self, tmp_path: Path) -> None:
        create_private(tmp_path / "file", b"data")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == b"data"
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600

    def test_a_name_that_is_taken_stays_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"first")
        with pytest.raises(FileExistsError):
            create_private(tmp_path / "file", b"second")
        assert (tmp_path / "file").read_bytes() == b"first"
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_of_many_who_want_a_name_one_gets_it(self, tmp_path: Path) -> None:
        def attempt(number: int) -> int | None:
            try:
                create_private(tmp_path / "file", str(number).encode())
            except FileExistsError:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            (winner,) = {number for number in threads.map(attempt, range(32)) if number is not None}
        assert (tmp_path / "file").read_bytes() == str(winner).encode()

    def test_a_name_that_gets_no_data_is_given_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(SetupError):
            create_private(tmp_path / "file", b"data")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [create_private, replace_private])
def test_a_disk_that_takes_nothing_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("qied.disk_sync.sync_file", full)
    assert callable(write)
    with pytest.raises(SetupError, match="No space left") as refused:
        write(tmp_path / "file", b"data")
    assert str(tmp_path / "file") in refused.value.message and "Free space" in refused.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other errors for these")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("file/keys", "A file, or a link to nothing, has this name"),
        ("dangling/keys", "A file, or a link to nothing, has this name"),
        ("circle/keys", "A file, or a link to nothing, has this name"),
        (f"{'long' * 100}/keys", "Choose a shorter name"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_with_a_remedy_that_works(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(SetupError) as refused:
        private_folder(tmp_path / name)
    assert remedy in refused.value.remedy
    assert str(tmp_path / name.partition("/")[0]) in refused.value.message


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")
def test_where_chmod_has_no_effect_no_remedy_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(found: os.stat_result) -> os.stat_result:
        return os.stat_result((found.st_mode | 0o777, *tuple(found)[1:]))

    file, stat_of, fstat_of = tmp_path / "ann.key.json", os.stat, os.fstat
    file.touch(mode=0o600)
    monkeypatch.setattr(os, "stat", lambda path, **more: wide(stat_of(path, **more)))
    monkeypatch.setattr(os, "fstat", lambda descriptor: wide(fstat_of(descriptor)))
    for refused in (lambda: private_folder(tmp_path), lambda: read_credential(file)):
        with pytest.raises((ConfigError, CredentialsMissing), match="open to other users") as unsafe:
            refused()
        assert "no Unix modes" in unsafe.value.remedy and "umask=077" in unsafe.value.remedy
        assert "chmod" not in unsafe.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["ann.key.json"]

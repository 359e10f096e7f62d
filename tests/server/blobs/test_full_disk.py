"""A disk that is full, or fails in the middle of a write: all space is given back."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from qied_client.errors import (
    DiskFull,
)

from qied.server.blobs.store import BlobStore
from tests.server.blobs.stores import DIGEST, begin, digest_of

FAILING_DISK = """
    import errno, hashlib, resource, sys
    from pathlib import Path
    from qied_client.errors import DiskFull
    from qied.server.blobs.store import BlobStore

    store = BlobStore(Path(sys.argv[1]), 10_000_000, 10_000_000, 0)
    data = bytes(range(256)) * 4_000
    upload = store.begin(hashlib.sha256(data).hexdigest(), len(data), "ann")
    upload.write(0, data[:400_000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    try:
        upload.write(400_000, data[400_000:])
    except DiskFull as full:
        assert full.__cause__.errno == errno.EFBIG
    else:
        sys.exit("the write did not fail")
    assert store.usage().used == 0
    assert list((Path(sys.argv[1]) / "partial").iterdir()) == []
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.verify(store.put(data))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_write_that_fails_gives_all_space_back(root: Path) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(FAILING_DISK), str(root)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestFullDisk:
    def test_refuses_before_bytes_are_taken_and_counts_what_is_on_its_way(self, small_disk: Path) -> None:
        store = BlobStore(small_disk / "blobs", 2**40, 2**30, 200_000)
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        promised = store.begin(DIGEST, free - 500_000, "ann", 2**40)
        with pytest.raises(DiskFull) as full:
            store.begin(digest_of(b""), 350_000, "ann", 2**40)
        assert full.value.details["reserve"] == 200_000
        promised.write(0, bytes(300_000))
        other = store.begin(digest_of(b""), 250_000, "ann", 2**40)
        promised.suspend()
        other.suspend()

    def test_that_others_filled_gives_all_space_back(self, small_disk: Path) -> None:
        store = BlobStore(small_disk / "blobs", 2**40, 2**30, 0)
        data = bytes(1_500_000)
        upload = begin(store, data)
        upload.write(0, data[:100_000])
        (small_disk / "filler").write_bytes(bytes(1_500_000))
        with pytest.raises(DiskFull, match="No space left"):
            upload.write(100_000, data[100_000:])
        assert store.usage().used == 0
        (small_disk / "filler").unlink()
        store.verify(store.put(data))

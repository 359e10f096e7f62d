"""Any order of uploads, deletions, collections and restarts keeps the counts right."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from qied_client.errors import (
    BlobMismatch,
    DiskFull,
)

from qied.server.blobs.ledger import LEAST_BYTES
from qied.server.blobs.store import BlobStore
from qied.server.blobs.upload import Upload
from tests.server.blobs.stores import Clock, digest_of

IN_MEMORY = Path("/dev/shm")


class Accounting(RuleBasedStateMachine):
    """Any order of uploads, deletions, collections and restarts keeps the counts equal to the files."""

    uploads = Bundle("uploads")
    limit = 100

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.root = Path(self.folder.name)
        self.clock = Clock()
        self.contents: dict[str, bytes] = {}
        self.open: set[Upload] = set()
        self.restart()

    @rule()
    def restart(self) -> None:
        for upload in self.open:
            upload.suspend()
        self.open.clear()
        self.store = BlobStore(self.root, self.limit, 40, 0, clock=self.clock)

    @rule(target=uploads, kind=st.integers(0, 5), size=st.integers(1, 40), owner=st.sampled_from(["ann", "bob"]))
    def begin(self, kind: int, size: int, owner: str) -> object:
        data = bytes([kind]) * size
        room = self.limit - self.store.usage().used
        try:
            upload = self.store.begin(digest_of(data), size, owner)
        except DiskFull:
            assert size > room
            return multiple()
        if self.store.exists(upload.hash):
            upload.finish()
            assert self.store.read(digest_of(data), 0, size) == data
            return multiple()
        self.contents[upload.hash] = data
        self.open.add(upload)
        return upload

    @rule(upload=uploads, length=st.integers(1, 40))
    def write(self, upload: Upload, length: int) -> None:
        data = self.contents[upload.hash]
        if upload in self.open and upload.offset < upload.size:
            upload.write(upload.offset, data[upload.offset :][:length])

    @rule(upload=uploads)
    def write_too_much(self, upload: Upload) -> None:
        if upload in self.open:
            with pytest.raises(BlobMismatch):
                upload.write(upload.offset, bytes(41))
            self.open.remove(upload)

    @rule(upload=consumes(uploads))
    def finish(self, upload: Upload) -> None:
        if upload not in self.open:
            return
        self.open.remove(upload)
        if upload.offset == upload.size:
            upload.finish()
            assert self.store.exists(upload.hash)
        else:
            with pytest.raises(BlobMismatch):
                upload.finish()

    @rule(upload=consumes(uploads))
    def suspend(self, upload: Upload) -> None:
        upload.suspend()
        self.open.discard(upload)

    @rule(age=st.integers(0, 20))
    def collect(self, age: int) -> None:
        before = self.store.usage().used
        removed = self.store.collect(set(), self.clock.now - age)
        assert self.store.usage().used == before - removed.bytes

    @rule(size=st.integers(1, 40))
    def make_room(self, size: int) -> None:
        try:
            self.store.make_room(size, set(), self.clock.now)
        except DiskFull:
            return
        assert self.limit - self.store.usage().used >= size

    @invariant()
    def counts_are_those_of_the_files(self) -> None:
        usage = self.store.usage()
        stored = list(self.root.glob("[0-9a-f][0-9a-f]/*"))
        open_files = sum(upload.offset for upload in self.open)
        partial_files = sum(path.stat().st_size for path in (self.root / "partial").iterdir())
        assert usage.stored == sum(path.stat().st_size for path in stored)
        assert usage.blobs == len(stored)
        assert usage.reserved == sum(upload.size for upload in self.open)
        assert usage.suspended == partial_files - open_files
        assert usage.used <= self.limit
        for owner in ("ann", "bob"):
            names = [path.name for path in (self.root / "partial").iterdir() if path.name.endswith(f"-{owner}")]
            assert self.store.under_way(owner) == len(names) * LEAST_BYTES

    def teardown(self) -> None:
        for upload in self.open:
            upload.suspend()
        self.folder.cleanup()


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)

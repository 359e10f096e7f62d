"""Stored blobs: read, verified, deleted and collected."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from qied_client.errors import (
    BlobDamaged,
    BlobMismatch,
    ConfigError,
    DiskFull,
    InvalidRequest,
    UnknownBlob,
)

from qied.server.blobs.store import BlobStore, Removed
from tests.server.blobs.stores import DATA, DIGEST, Clock, begin, digest_of, partials

Harm = Callable[[bytes], bytes]


class TestStoredBlobs:
    def test_that_are_unknown_are_reported(self, store: BlobStore) -> None:
        for call in (store.size, store.open_read, store.verify, store.touch):
            with pytest.raises(UnknownBlob):
                call(DIGEST)

    def test_that_somebody_removed_are_unknown_and_can_come_again(self, store: BlobStore, root: Path) -> None:
        store.put(DATA)
        (root / DIGEST[:2] / DIGEST).unlink()
        with pytest.raises(UnknownBlob):
            store.read(DIGEST, 0, 1)
        assert store.usage().used == 0
        store.put(DATA)
        assert store.read(DIGEST, 0, len(DATA)) == DATA

    def test_are_read_within_their_bounds(self, store: BlobStore) -> None:
        store.put(DATA)
        assert store.read(DIGEST, len(DATA) - 5, 100) == DATA[-5:]
        for offset, length in ((-1, 5), (len(DATA) + 1, 5), (0, -1)):
            with pytest.raises(InvalidRequest):
                store.read(DIGEST, offset, length)

    def test_that_rotted_are_found_out_and_can_be_replaced(self, store: BlobStore, root: Path) -> None:
        store.put(DATA)
        store.verify(DIGEST)
        file = root / DIGEST[:2] / DIGEST
        file.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
        with pytest.raises(BlobDamaged, match="damaged"):
            store.verify(DIGEST)
        store.put(DATA)
        store.verify(DIGEST)

    @pytest.mark.parametrize("harm", [lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:-20]])
    @pytest.mark.parametrize("restarted", [False, True])
    def test_that_rotted_are_mended_by_sending_them_again(
        self, store: BlobStore, root: Path, open_store: Callable[..., BlobStore], harm: Harm, restarted: bool
    ) -> None:
        store.put(DATA)
        (root / DIGEST[:2] / DIGEST).write_bytes(harm(DATA))
        store = open_store() if restarted else store
        assert store.begin(DIGEST, len(DATA), "bob").offset == 0
        store.put(DATA)
        store.verify(DIGEST)
        assert store.usage().stored == len(DATA)

    def test_keep_their_bytes_whatever_size_somebody_announces(self, store: BlobStore) -> None:
        store.put(DATA)
        upload = store.begin(DIGEST, len(DATA) + 1, "bob")
        upload.write(0, DATA + b"x")
        with pytest.raises(BlobMismatch):
            upload.finish()
        assert store.read(DIGEST, 0, len(DATA)) == DATA

    def test_that_a_crash_left_empty_are_not_taken_for_stored(
        self, store: BlobStore, root: Path, open_store: Callable[..., BlobStore]
    ) -> None:
        (root / DIGEST[:2] / DIGEST).touch()
        assert not open_store().exists(DIGEST)

    def test_are_taken_up_at_a_restart_and_other_files_are_left_alone(
        self, store: BlobStore, root: Path, open_store: Callable[..., BlobStore]
    ) -> None:
        store.put(DATA)
        (root / "00" / "notes.txt").write_text("mine")
        (root / "notes.txt").write_text("mine")
        again = open_store()
        assert (again.usage().stored, again.usage().blobs) == (len(DATA), 1)
        assert (root / "00" / "notes.txt").exists()

    @pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")
    def test_are_kept_to_their_owner(self, store: BlobStore, root: Path) -> None:
        store.put(DATA)
        begin(store, b"other").write(0, b"o")
        modes = {path.is_dir(): set[int]() for path in (root, root / DIGEST[:2] / DIGEST)}
        for path in (root, *root.rglob("*")):
            modes[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
        assert modes == {True: {0o700}, False: {0o600}}
        root.chmod(0o755)
        with pytest.raises(ConfigError, match="chmod 700"):
            BlobStore(root, 1, 1, 0)


class TestCollection:
    def test_removes_what_is_old_and_not_pinned(self, clock: Clock, store: BlobStore, root: Path) -> None:
        old, pinned = store.put(b"old"), store.put(b"pinned")
        abandoned = begin(store, b"abandoned")
        abandoned.write(0, b"aban")
        abandoned.suspend()
        cutoff = clock()
        new = store.put(b"new")
        running = begin(store, b"running")
        running.write(0, b"r")
        assert store.collect({pinned}, cutoff) == Removed((old,), 1, 7)
        assert [store.exists(digest) for digest in (old, pinned, new)] == [False, True, True]
        assert partials(root) == [f"{digest_of(b'running')}-1-ann"]
        assert store.usage().used == len(b"pinned" + b"new" + b"running")

    def test_spares_what_was_used_since(self, clock: Clock, store: BlobStore) -> None:
        one, two = store.put(b"one"), store.put(b"two")
        cutoff = clock()
        store.touch(one)
        store.begin(two, 3, "ann").finish()
        assert store.collect(set(), cutoff) == Removed((), 0, 0)

    def test_spares_what_is_used_while_it_goes_on(self, store: BlobStore, clock: Clock) -> None:
        class UsedWhenLookedAt(set[str]):
            def __contains__(self, digest: object) -> bool:
                store.touch(str(digest))
                return False

        digest = store.put(DATA)
        assert store.collect(UsedWhenLookedAt(), clock()) == Removed((), 0, 0)
        assert store.read(digest, 0, len(DATA)) == DATA

    def test_remembers_uses_over_a_restart(
        self, clock: Clock, store: BlobStore, open_store: Callable[..., BlobStore]
    ) -> None:
        digest = store.put(b"one")
        store.touch(digest)
        used_at = clock()
        again = open_store()
        assert again.collect(set(), used_at - 10) == Removed((), 0, 0)
        assert again.collect(set(), used_at).blobs == (digest,)

    def test_makes_just_enough_room_oldest_first(self, clock: Clock, store: BlobStore) -> None:
        digests = [store.put(bytes([number]) * 2_500) for number in range(4)]
        now = clock()
        assert store.make_room(1_000, {digests[0]}, now) == Removed((digests[1],), 0, 2_500)
        assert store.make_room(1_000, {digests[0]}, now) == Removed((), 0, 0)
        begin(store)

    def test_makes_room_of_the_uploads_of_one_owner_alone(self, clock: Clock, store: BlobStore) -> None:
        for owner in ("ann", "bob"):
            upload = begin(store, b"x" * 5_000, owner)
            upload.write(0, b"x" * 4_000)
            upload.suspend()
        with pytest.raises(DiskFull):
            store.make_room(5_000, set(), clock(), owner="carl")
        assert store.make_room(5_000, set(), clock(), owner="bob") == Removed((), 1, 4_000)
        assert begin(store, b"x" * 5_000, "ann").offset == 4_000

    def test_gives_up_abandoned_uploads_before_blobs(self, clock: Clock, store: BlobStore) -> None:
        store.put(bytes(5_000))
        abandoned = begin(store, b"x" * 5_000)
        abandoned.write(0, b"x" * 3_000)
        abandoned.suspend()
        assert store.make_room(4_000, set(), clock()) == Removed((), 1, 3_000)

    def test_removes_nothing_where_all_would_not_be_enough(self, clock: Clock, store: BlobStore) -> None:
        pinned, free = store.put(b"p" * 5_000), store.put(b"f" * 3_000)
        with pytest.raises(DiskFull) as full:
            store.make_room(5_001 - 1, {pinned, free}, clock())
        assert full.value.details["missing"] == 3_000
        assert store.exists(free)
        assert store.make_room(5_000, {pinned}, clock()).blobs == (free,)

"""Uploads: resumed, checked against their hash, proved, and turned away."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qied_client.errors import (
    BlobMismatch,
    ProtocolError,
)

from qied.server.blobs.store import BlobStore
from tests.server.blobs.stores import DATA, DIGEST, begin, digest_of, partials


class TestUpload:
    def test_in_chunks_gives_the_bytes_back(self, store: BlobStore, root: Path) -> None:
        upload = begin(store)
        for start in range(0, len(DATA), 300):
            upload.write(upload.offset, DATA[start : start + 300])
        assert not store.exists(DIGEST)
        upload.finish()
        upload.finish()
        assert (store.size(DIGEST), store.read(DIGEST, 100, 50)) == (len(DATA), DATA[100:150])
        assert (root / DIGEST[:2] / DIGEST).read_bytes() == DATA
        assert partials(root) == []

    def test_is_not_needed_for_a_blob_that_is_stored(self, store: BlobStore) -> None:
        assert store.put(DATA) == DIGEST
        upload = store.begin(DIGEST, len(DATA), "bob")
        assert upload.offset == len(DATA)
        upload.suspend()
        upload.finish()
        with pytest.raises(ProtocolError):
            upload.write(len(DATA), b"more")
        assert store.put(DATA) == DIGEST
        assert store.usage().stored == len(DATA)

    def test_goes_on_after_a_restart_from_the_bytes_that_are_there(
        self, store: BlobStore, open_store: Callable[..., BlobStore]
    ) -> None:
        first = begin(store)
        first.write(0, DATA[:700])
        first.suspend()
        first.suspend()
        again = open_store()
        assert again.usage().suspended == 700
        upload = begin(again)
        assert upload.offset == 700
        upload.write(700, DATA[700:])
        upload.finish()
        assert again.read(DIGEST, 0, len(DATA)) == DATA

    def test_goes_on_even_where_the_daemon_was_killed(
        self, store: BlobStore, open_store: Callable[..., BlobStore]
    ) -> None:
        begin(store).write(0, DATA[:700])
        assert begin(open_store()).offset == 700

    def test_of_another_owner_starts_from_its_own_bytes(self, store: BlobStore) -> None:
        ann = begin(store, owner="ann")
        ann.write(0, DATA[:700])
        ann.suspend()
        assert begin(store, owner="bob").offset == 0

    def test_starts_over_where_more_bytes_are_there_than_announced(self, store: BlobStore, root: Path) -> None:
        upload = begin(store)
        upload.write(0, DATA)
        upload.suspend()
        assert store.begin(DIGEST, 100, "ann").offset == 0

    def test_out_of_order_is_refused_and_stays_open(self, store: BlobStore) -> None:
        upload = begin(store)
        upload.write(0, DATA[:10])
        for offset, data in ((0, DATA[:10]), (20, DATA[20:30]), (10, b"")):
            with pytest.raises(ProtocolError):
                upload.write(offset, data)
        upload.write(10, DATA[10:])
        upload.finish()

    def test_of_more_than_the_announced_bytes_is_dropped(self, store: BlobStore, root: Path) -> None:
        upload = begin(store)
        with pytest.raises(BlobMismatch):
            upload.write(0, DATA + b"x")
        assert (partials(root), store.usage().used) == ([], 0)
        with pytest.raises(ProtocolError, match="ended"):
            upload.write(0, DATA)

    @pytest.mark.parametrize("sent", [DATA[:-1], DATA[:-1] + b"!"])
    def test_of_other_bytes_than_announced_is_dropped(self, store: BlobStore, root: Path, sent: bytes) -> None:
        upload = begin(store)
        upload.write(0, sent)
        with pytest.raises(BlobMismatch):
            upload.finish()
        assert (partials(root), store.usage().used, store.exists(DIGEST)) == ([], 0, False)

    def test_with_a_damaged_beginning_is_found_out_and_starts_over(self, store: BlobStore, root: Path) -> None:
        upload = begin(store)
        upload.write(0, DATA[:700])
        upload.suspend()
        (root / "partial" / f"{DIGEST}-1-ann").write_bytes(bytes(700))
        upload = begin(store)
        upload.write(700, DATA[700:])
        with pytest.raises(BlobMismatch):
            upload.finish()
        assert begin(store).offset == 0

    def test_of_an_owner_whose_name_ends_like_a_number_never_continues_that_of_another(self, store: BlobStore) -> None:
        uploads = [begin(store, owner="ann") for _ in range(3)]
        for upload in uploads:
            upload.write(0, DATA[:700])
            upload.suspend()
        for owner in ("ann.2", "ann-2", "2-ann", "1-ann", "nn", "2"):
            upload = begin(store, owner=owner)
            assert upload.offset == 0
            upload.suspend()
        assert begin(store, owner="ann").offset == 700

    def test_of_a_blob_that_somebody_else_has_goes_like_that_of_a_new_one(self, store: BlobStore, root: Path) -> None:
        def offer(data: bytes, announced: int) -> list[object]:
            """Everything that the uploader sees."""
            upload = store.begin(digest_of(data), announced, "bob", 2**20, known=False)
            upload.write(0, bytes(100))
            upload.suspend()
            again = store.begin(digest_of(data), announced, "bob", 2**20, known=False)
            seen: list[object] = [upload.stored, again.offset]
            again.write(100, bytes(announced - 100))
            with pytest.raises(BlobMismatch) as refused:
                again.finish()
            return [*seen, refused.value.message.replace(digest_of(data), "hash"), refused.value.remedy]

        store.put(DATA)
        assert offer(DATA, 300) == offer(b"unknown", 300)
        assert offer(DATA, len(DATA)) == offer(b"unknown", len(DATA))
        assert store.read(DIGEST, 0, len(DATA)) == DATA
        upload = store.begin(DIGEST, len(DATA), "bob", 2**20, known=False)
        upload.write(0, DATA)
        upload.finish()
        assert (store.usage().used, partials(root)) == (len(DATA), [])

    def test_without_a_byte_leaves_nothing(self, store: BlobStore, root: Path) -> None:
        begin(store).suspend()
        assert (partials(root), store.under_way("ann")) == ([], 0)

    def test_that_an_older_version_left_is_not_continued(
        self, store: BlobStore, root: Path, open_store: Callable[..., BlobStore]
    ) -> None:
        (root / "partial" / f"{DIGEST}.ann.2").write_bytes(DATA[:700])
        assert (open_store().usage().suspended, partials(root)) == (0, [])

    def test_twice_at_once_by_one_owner_works_for_both(self, store: BlobStore, root: Path) -> None:
        one, two = begin(store), begin(store)
        one.write(0, DATA)
        two.write(0, DATA[:100])
        one.finish()
        two.write(100, DATA[100:])
        two.finish()
        assert (store.usage().used, store.usage().blobs, partials(root)) == (len(DATA), 1, [])

    def test_from_many_threads_loses_no_count(self, root: Path) -> None:
        store = BlobStore(root, 10_000_000, 100_000, 0)
        blobs = [random.Random(seed % 10).randbytes(20_000 + seed % 10) for seed in range(40)]
        with ThreadPoolExecutor(8) as threads:
            digests = list(threads.map(store.put, blobs))
        assert digests == [digest_of(blob) for blob in blobs]
        usage = store.usage()
        assert (usage.stored, usage.used, usage.blobs) == (sum(len(blob) for blob in blobs[:10]),) * 2 + (10,)

"""What the store has room for, and names that would lead out of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from qied_client.errors import (
    BlobTooLarge,
    DiskFull,
    InvalidRequest,
    QuotaExceeded,
)

from qied.server.blobs.ledger import LEAST_BYTES
from qied.server.blobs.store import BlobStore
from tests.server.blobs.stores import DATA, DIGEST, begin, digest_of, partials


class TestLimits:
    def test_count_announced_bytes_before_they_come(self, store: BlobStore, root: Path) -> None:
        held = [store.begin(digest_of(bytes([n])), 4_000, "ann") for n in range(2)]
        with pytest.raises(DiskFull) as full:
            store.begin(DIGEST, 4_000, "ann")
        assert full.value.details == {"size": 4_000, "available": 2_000, "limit": 10_000}
        assert len(partials(root)) == 2
        held[0].suspend()
        begin(store)

    def test_count_the_bytes_of_a_resumed_upload_once(self, store: BlobStore) -> None:
        upload = begin(store)
        upload.write(0, DATA[:1_000])
        upload.suspend()
        store.put(bytes(5_000))
        store.put(bytes(10_000 - 5_000 - len(DATA)))
        assert store.usage().used == 10_000 - len(DATA) + 1_000
        begin(store).write(1_000, DATA[1_000:])
        assert store.usage().used == 10_000

    def test_hold_for_all_uploads_of_one_owner(self, open_store: Callable[..., BlobStore]) -> None:
        share = 10 * LEAST_BYTES
        store = open_store(limit=100 * LEAST_BYTES, max_blob=share)
        held = [store.begin(digest_of(bytes([n])), 1, "ann", share) for n in range(9)]
        with pytest.raises(QuotaExceeded, match=r"storage\.user_share"):
            store.begin(DIGEST, LEAST_BYTES + 1, "ann", share)
        store.begin(DIGEST, share, "bob", share)
        last = store.begin(DIGEST, LEAST_BYTES, "ann", share)
        with pytest.raises(QuotaExceeded):
            store.begin(digest_of(b"one more"), 1, "ann", share)
        last.write(0, DATA)
        last.suspend()
        assert store.begin(DIGEST, LEAST_BYTES, "ann", share).offset == len(DATA)
        held[0].suspend()
        assert store.under_way("ann") == 9 * LEAST_BYTES

    def test_leave_a_part_to_results(self, root: Path) -> None:
        store = BlobStore(root, 10_000, 5_000, 0, left_to_results=lambda: 4_000)
        begin(store, bytes(4_000)).write(0, bytes(4_000))
        with pytest.raises(DiskFull):
            store.begin(DIGEST, 2_001, "ann", 2**20)
        store.begin(DIGEST, 5_000, "worker.worker-0")

    def test_leave_the_file_system_its_reserve(self, open_store: Callable[..., BlobStore]) -> None:
        with pytest.raises(DiskFull, match="stay free") as full:
            begin(open_store(free_reserve=2**62))
        assert full.value.details["size"] == len(DATA)

    @pytest.mark.parametrize(("size", "error"), [(5_001, BlobTooLarge), (0, InvalidRequest), (-1, InvalidRequest)])
    def test_hold_for_each_blob(self, store: BlobStore, size: int, error: type[Exception]) -> None:
        with pytest.raises(error):
            store.begin(DIGEST, size, "ann")

    def test_hold_for_results_too(self, store: BlobStore) -> None:
        with pytest.raises(BlobTooLarge):
            store.put(bytes(5_001))

    def test_are_larger_for_results_than_for_uploads(self, root: Path) -> None:
        store = BlobStore(root, 20_000, 5_000, 0, max_result_bytes=7_000)
        with pytest.raises(BlobTooLarge, match="A picture of 6000 bytes is above the limit of 5000"):
            store.begin(DIGEST, 6_000, "ann", 10_000)
        with pytest.raises(BlobTooLarge, match="above the limit of 5000"):
            store.make_room(6_000, frozenset(), 0.0, owner="ann")
        assert store.size(store.put(bytes(6_000))) == 6_000
        store.make_room(7_000, frozenset(), 0.0, result=True)
        with pytest.raises(BlobTooLarge, match="A result of 7001 bytes is above the limit of 7000"):
            store.make_room(7_001, frozenset(), 0.0, result=True)


HOSTILE = [
    "",
    "..",
    "../" * 20 + "a" * 4,
    "A" * 64,
    "a" * 63,
    "a" * 65,
    "g" * 64,
    "a" * 64 + "\n",
    "a/" * 32,
    "\0" * 64,
]


@pytest.mark.parametrize("digest", HOSTILE)
def test_what_is_no_hash_reaches_no_path(store: BlobStore, digest: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.begin(digest, 10, "ann"),
        lambda: store.open_read(digest),
        lambda: store.read(digest, 0, 1),
        lambda: store.size(digest),
        lambda: store.exists(digest),
        lambda: store.verify(digest),
        lambda: store.touch(digest),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            call()


@pytest.mark.parametrize("owner", ["", "../x", "a b", "a" * 65, "ä"])
def test_an_owner_that_is_no_name_reaches_no_path(store: BlobStore, owner: str) -> None:
    with pytest.raises(InvalidRequest):
        store.begin(DIGEST, 10, owner)

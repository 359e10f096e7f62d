import hashlib
import os
import random
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from qied_client.errors import (
    BlobDamaged,
    BlobMismatch,
    BlobTooLarge,
    ConfigError,
    DiskFull,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    UnknownBlob,
)

from qied.server.blobs.ledger import LEAST_BYTES
from qied.server.blobs.store import BlobStore, Removed
from qied.server.blobs.upload import Upload

DATA = bytes(range(256)) * 8
DIGEST = hashlib.sha256(DATA).hexdigest()
Harm = Callable[[bytes], bytes]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def partials(store_root: Path) -> list[str]:
    return [path.name for path in (store_root / "partial").iterdir()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(root: Path, clock: Clock) -> Callable[..., BlobStore]:
    def open_store(limit: int = 10_000, max_blob: int = 5_000, free_reserve: int = 0) -> BlobStore:
        return BlobStore(root, limit, max_blob, free_reserve, clock)

    return open_store


@pytest.fixture
def store(open_store: Callable[..., BlobStore]) -> BlobStore:
    return open_store()


def begin(store: BlobStore, data: bytes = DATA, owner: str = "ann") -> Upload:
    return store.begin(digest_of(data), len(data), owner)


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

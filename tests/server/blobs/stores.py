"""What tests of the store share: a blob, and a clock that goes on by itself."""

import hashlib
from pathlib import Path

from qied.server.blobs.store import BlobStore
from qied.server.blobs.upload import Upload

DATA = bytes(range(256)) * 8
DIGEST = hashlib.sha256(DATA).hexdigest()


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


def begin(store: BlobStore, data: bytes = DATA, owner: str = "ann") -> Upload:
    return store.begin(digest_of(data), len(data), owner)

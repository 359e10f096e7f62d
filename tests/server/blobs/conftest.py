"""Stores of blobs on a temporary disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qied.server.blobs.store import BlobStore
from tests.server.blobs.stores import Clock


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

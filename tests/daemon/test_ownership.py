"""Knowing a blob's hash is not having it."""

from __future__ import annotations

import pytest
from qied_client import Client
from qied_client.credentials import read_credential
from qied_client.errors import UnknownBlob
from qied_client.protocol import messages as m
from qied_client.transfers import hash_of

from qied.server.access.keys import KeyStore, write_credential
from qied.server.blobs.store import BlobStore


class Pretended:
    """Claims to have bytes of which it knows only the hash and the size."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        return b"\0" * len(range(*part.indices(self._size)))


def test_a_stored_picture_of_somebody_else_cannot_be_claimed_by_its_hash(daemon, picture, tmp_path):
    endpoint = read_credential(daemon.key).endpoint
    write_credential(tmp_path / "anna.json", KeyStore(daemon.home).add("anna", endpoint))
    blob = hash_of(picture)
    with daemon.client() as owner, Client(tmp_path / "anna.json") as anna:
        owner.session(picture, name="mine")
        with pytest.raises(Exception, match="hash"):
            anna._loop.run(lambda: anna._client._driver.upload(blob, Pretended(len(picture))))
        with pytest.raises(UnknownBlob):
            anna._loop.run(lambda: anna._client._ask(lambda n: m.Open(n, "theirs", blob)))
        with pytest.raises(UnknownBlob):
            anna.download(blob)
        anna.session(picture, name="theirs")
        assert owner.download(blob) == picture


def test_an_upload_that_ended_just_before_its_last_sync_is_finished_by_the_next_offer(start_daemon, picture, tmp_path):
    home, blob = tmp_path / "home", hash_of(picture)
    home.mkdir(mode=0o700)
    left = BlobStore(home / "blobs", 2**30, 2**20, 0).begin(blob, len(picture), "user.local")
    left.write(0, picture)
    left.suspend()
    with start_daemon(home).client() as client:
        assert client.edit(picture, "go", seed=1, steps=1, width=64, height=48, timeout=30).width == 64
        assert client.download(blob) == picture

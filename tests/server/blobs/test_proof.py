"""A stored blob is claimed with its bytes, not with its hash."""

from __future__ import annotations

import pytest
from qied_client.errors import BlobMismatch, ProtocolError
from qied_client.transfers import hash_of

from qied.server.blobs.upload import Proof

DATA = b"picture" * 100


def test_the_right_bytes_are_a_proof():
    proof = Proof(hash_of(DATA), len(DATA))
    proof.write(0, DATA[:300])
    proof.write(300, memoryview(DATA)[300:])
    proof.finish()


def test_other_bytes_are_none():
    proof = Proof(hash_of(DATA), len(DATA))
    proof.write(0, b"x" * len(DATA))
    with pytest.raises(BlobMismatch):
        proof.finish()


@pytest.mark.parametrize(("offset", "data"), [(1, b"x"), (0, DATA + b"x")])
def test_bytes_out_of_place_are_refused(offset, data):
    with pytest.raises(ProtocolError):
        Proof(hash_of(DATA), len(DATA)).write(offset, data)

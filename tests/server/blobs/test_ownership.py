"""Bytes of a user's blobs follow each change of ownership."""

from __future__ import annotations

from qied.server.blobs.ledger import LEAST_BYTES
from qied.server.blobs.ownership import Ownership
from qied.server.journal.changes import OwnBlob

LARGE = 10 * LEAST_BYTES


def test_a_users_bytes_are_those_of_the_blobs_and_a_small_one_counts_as_more() -> None:
    blobs = [OwnBlob("ann", "a", LARGE, 1.0), OwnBlob("ann", "b", 1, 2.0), OwnBlob("bob", "a", LARGE, 3.0)]
    ownership = Ownership(blobs)
    assert (ownership.bytes_of("ann"), ownership.bytes_of("bob")) == (LARGE + LEAST_BYTES, LARGE)
    ownership.own(OwnBlob("ann", "a", LARGE, 9.0))
    assert ownership.bytes_of("ann") == LARGE + LEAST_BYTES
    assert [owner.hash for owner in ownership.of_user("ann", 10.0)] == ["b", "a"]
    assert (ownership.of_others("ann"), ownership.of_others("bob")) == ({"a"}, {"a", "b"})
    ownership.give_up("bob", "a")
    assert (ownership.of_others("ann"), ownership.may_read("bob", "a")) == (frozenset(), True)
    ownership.own(OwnBlob("bob", "a", LARGE, 3.0))
    assert ownership.of_others("ann") == {"a"}
    ownership.disown([("bob", "a"), ("bob", "nothing")])
    assert (ownership.of_others("ann"), ownership.of_others(None)) == (frozenset(), {"a", "b"})
    ownership.disown([("ann", "a"), ("ann", "b")])
    assert (ownership.bytes_of("ann"), ownership.owned) == (0, frozenset())

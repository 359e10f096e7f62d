import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from qied_client.errors import BlobMismatch, ProtocolError
from qied_client.protocol import limits
from qied_client.protocol.messages import Chunk
from qied_client.transfers import Receiver, Sender, hash_of

CHUNK = limits.CHUNK_BYTES
PATTERN = bytes(range(256)) * (CHUNK // 256) * 7
SIZES = st.sampled_from([1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5, 6 * CHUNK])


class Transfer(RuleBasedStateMachine):
    """A sender and a receiver with a wire between them that may be cut at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.wire: list[Chunk] = []
        self.granted = 0
        self.complete = False

    @initialize(size=SIZES, start=st.integers(0, 255))
    def begin(self, size: int, start: int) -> None:
        self.blob = PATTERN[start : start + size]
        self.receiver = Receiver(hash_of(self.blob))
        self.sender = Sender(7, memoryview(self.blob))

    @rule(credit=st.integers(1, 8))
    def allow(self, credit: int) -> None:
        self.granted = min(self.granted + credit, 64)
        self.sender.allow(credit)

    @rule()
    def send(self) -> None:
        sent = list(self.sender.chunks())
        assert len(sent) <= self.granted
        self.granted -= len(sent)
        assert self.sender.done or self.granted == 0
        self.wire += sent

    @precondition(lambda self: self.wire)
    @rule()
    def deliver(self) -> None:
        self.complete = self.receiver.take(self.wire.pop(0))

    @precondition(lambda self: not self.complete)
    @rule(credit=st.integers(1, 8))
    def reconnect(self, credit: int) -> None:
        self.wire.clear()
        self.granted = credit
        self.sender.restart(self.receiver.offset, credit)

    @invariant()
    def bytes_are_right_so_far(self) -> None:
        assert bytes(self.receiver.data) == self.blob[: self.receiver.offset]
        assert self.complete == (self.receiver.offset == len(self.blob))

    def teardown(self) -> None:
        if not hasattr(self, "blob"):
            return
        while not self.complete:
            if not self.wire:
                self.reconnect(2)
                self.send()
            self.deliver()
        assert bytes(self.receiver.data) == self.blob


TestTransfer = Transfer.TestCase
TestTransfer.settings = settings(max_examples=60, stateful_step_count=30)


@given(SIZES, st.data())
def test_one_changed_byte_anywhere_is_found(size: int, data: st.DataObject) -> None:
    blob = bytearray(PATTERN[:size])
    receiver = Receiver(hash_of(bytes(blob)))
    blob[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    chunks = list(Sender(1, bytes(blob), credit=64).chunks())
    assert not any(receiver.take(chunk) for chunk in chunks[:-1])
    with pytest.raises(BlobMismatch):
        receiver.take(chunks[-1])


@given(st.integers(0, 6 * CHUNK), st.integers(1, 64))
def test_a_restart_goes_on_from_any_offset(offset: int, credit: int) -> None:
    sender = Sender(1, PATTERN[: 6 * CHUNK], credit=3)
    list(sender.chunks())
    sender.restart(offset, credit)
    sent = list(sender.chunks())
    assert b"".join(bytes(chunk.data) for chunk in sent) == PATTERN[offset : min(offset + credit * CHUNK, 6 * CHUNK)]
    assert all(chunk.total == 6 * CHUNK for chunk in sent)


def test_a_restart_beyond_the_end_is_refused() -> None:
    with pytest.raises(ProtocolError, match="beyond the end"):
        Sender(1, b"abc").restart(4, 1)


def test_a_flood_of_credit_is_cut() -> None:
    sender = Sender(1, b"abc")
    for _ in range(1000):
        sender.allow(64)
    assert sender.credit == 64


def test_nothing_is_sent_without_credit() -> None:
    assert list(Sender(1, b"abc").chunks()) == []


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(1, 1, 6, b"b"),
        Chunk(1, 0, 6, b"abc"),
        Chunk(1, 3, 7, b"def"),
        Chunk(1, 3, 6, b"defg"),
        Chunk(1, 4, 6, b"ef"),
    ],
    ids=["earlier", "repeated", "of another size", "beyond the end", "with a gap"],
)
def test_a_chunk_that_is_not_the_next_one_is_refused_and_leaves_what_is_there(chunk: Chunk) -> None:
    receiver = Receiver(hash_of(b"abcdef"))
    assert not receiver.take(Chunk(1, 0, 6, b"abc"))
    with pytest.raises(ProtocolError):
        receiver.take(chunk)
    assert receiver.take(Chunk(1, 3, 6, b"def"))


def test_a_blob_may_not_be_larger_than_the_limit() -> None:
    with pytest.raises(ProtocolError):
        Receiver("0" * 64).take(Chunk(1, 0, limits.RESULT_BYTES + 1, b"a"))

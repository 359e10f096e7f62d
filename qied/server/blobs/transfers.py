"""Blobs on their way between a connection and the disk, a few chunks at a time and never on the event loop."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import structlog
from qied_client.errors import (
    BlobMismatch,
    DiskFull,
    InvalidRequest,
    ProtocolError,
    QiedError,
    QuotaExceeded,
    RequestTimeout,
    UnknownBlob,
)
from qied_client.protocol import limits
from qied_client.protocol import messages as m

from qied.server.blobs.store import BlobStore, Upload
from qied.server.disk_failures import disk_failure
from qied.server.off_loop import off_loop
from qied.server.ports.account import Account, over_limit
from qied.server.ports.peer import Peer

if TYPE_CHECKING:
    from hashlib import _Hash

_log = structlog.get_logger(part="transfers")

_IDLE_S = 60.0
"""Seconds without a chunk after which an upload is ended: its bytes are reserved, and others may want them."""


class Uploading:
    """One upload of a connection: chunks are queued here and written in order by a task of their own."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[m.Chunk] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    def take(self, chunk: m.Chunk) -> None:
        """Queue a chunk; one beyond the credit is an error."""
        if self._chunks.qsize() > limits.CREDIT:
            raise ProtocolError(
                f"More than {limits.CREDIT} chunks came without an acknowledgement.", "Send only within the credit."
            )
        self._chunks.put_nowait(chunk)

    async def next(self) -> m.Chunk:
        """Wait for the next chunk; raises RequestTimeout."""
        try:
            async with asyncio.timeout(_IDLE_S):
                return await self._chunks.get()
        except TimeoutError:
            raise RequestTimeout(f"No chunk came for {_IDLE_S:g} s.", "Offer the blob again.") from None

    def abandon(self) -> None:
        """The connection is gone, or the peer has given it up."""
        if self.task is not None:
            self.task.cancel()


class Downloading:
    """One download of a connection, which waits for credit between chunks."""

    def __init__(self, credit: int) -> None:
        self._credit = asyncio.Semaphore(min(credit, limits.CREDIT))
        self._allowed = min(credit, limits.CREDIT)
        self.task: asyncio.Task[None] | None = None

    def allow(self, chunks: int) -> None:
        """Let as many more chunks go, up to the credit of the protocol."""
        for _ in range(min(chunks, limits.CREDIT - self._allowed)):
            self._allowed += 1
            self._credit.release()

    async def spend(self) -> None:
        """Wait until one more chunk may be sent."""
        await self._credit.acquire()
        self._allowed -= 1

    def abandon(self) -> None:
        """The connection is gone, or the peer has given it up."""
        if self.task is not None:
            self.task.cancel()


class BlobTransfers:
    """Uploads and downloads of all connections.

    ``role`` tells the partial files of clients from those of workers. ``on_stored`` is awaited with the peer, hash and
    size before STORED is sent; ``may_read`` says whether a peer may have a blob; ``own_bytes`` how much a peer may have
    under way (None: it brings results); ``make_room`` frees bytes for a peer and says whether it could. Uploads take
    turns at hashing and writing, a chunk at a time, so that many of them never keep requests and heartbeats from
    threads and cores.
    """

    def __init__(
        self,
        store: BlobStore,
        executor: Executor,
        role: Literal["user", "worker"],
        on_stored: Callable[[Peer, str, int], Awaitable[None]],
        may_read: Callable[[Peer, str], bool],
        own_bytes: Callable[[Peer], int | None],
        make_room: Callable[[Peer, int], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._executor = executor
        self._role = role
        self._on_stored = on_stored
        self._may_read = may_read
        self._own_bytes = own_bytes
        self._make_room = make_room
        self._writing = asyncio.Lock()

    def handle(self, peer: Peer, message: m.Message) -> bool:
        """Take what any connection may send, a heartbeat or a message of a transfer; False for any other message."""
        match message:
            case m.Ping(nonce):
                peer.send(m.Pong(nonce))
            case m.Chunk():
                self._chunk(peer, message)
            case m.More():
                self._more(peer, message)
            case m.Put():
                self._put(peer, message)
            case m.Get():
                self._get(peer, message)
            case m.Drop():
                self._drop(peer, message)
            case _:
                return False
        return True

    def _put(self, peer: Peer, message: m.Put) -> None:
        """Begin an upload."""
        uploads = sum(isinstance(transfer, Uploading) for transfer in peer.transfers.values())
        if refusal := self._too_many_uploads(peer.account, uploads):
            peer.refuse(refusal, message.id)
            return
        if message.id in peer.transfers:
            peer.refuse(ProtocolError(f"Transfer {message.id} is already in progress."), message.id)
            return
        uploading = peer.transfers[message.id] = Uploading()
        uploading.task = asyncio.create_task(self._upload(peer, message, uploading))
        peer.account.uploads += 1
        uploading.task.add_done_callback(lambda _: _end_upload(peer.account))

    def _too_many_uploads(self, account: Account, of_connection: int) -> QuotaExceeded | None:
        limits, remedy = account.limits, "Finish one first."
        if self._role == "worker":
            return None
        if of_connection >= limits.uploads_per_client:
            things = "uploads in progress on this connection"
            return over_limit("limits.uploads_per_client", of_connection, things, remedy)
        if account.uploads >= limits.uploads_per_user:
            return over_limit("limits.uploads_per_user", account.uploads, "uploads in progress", remedy)
        return None

    def _chunk(self, peer: Peer, message: m.Chunk) -> None:
        """Take one chunk of an upload; one of a transfer that has ended is ignored."""
        uploading = peer.transfers.get(message.transfer)
        if not isinstance(uploading, Uploading):
            return
        try:
            uploading.take(message)
        except QiedError as error:
            self._end(peer, message.transfer)
            uploading.abandon()
            peer.refuse(error, message.transfer)

    def _get(self, peer: Peer, message: m.Get) -> None:
        """Begin a download."""
        if message.id in peer.transfers:
            peer.refuse(ProtocolError(f"Transfer {message.id} is already in progress."), message.id)
            return
        account = peer.account
        if self._role == "user" and account.downloads >= account.limits.downloads_per_user:
            setting = "limits.downloads_per_user"
            refusal = over_limit(setting, account.downloads, "downloads in progress", "Finish one first.")
            peer.refuse(refusal, message.id)
            return
        if not self._may_read(peer, message.hash):
            peer.refuse(_unknown(message.hash), message.id)
            return
        downloading = peer.transfers[message.id] = Downloading(message.credit)
        downloading.task = asyncio.create_task(self._download(peer, message, downloading))
        account.downloads += 1
        downloading.task.add_done_callback(lambda _: _end_download(account))

    def _more(self, peer: Peer, message: m.More) -> None:
        """Take an acknowledgement of a download."""
        downloading = peer.transfers.get(message.transfer)
        if isinstance(downloading, Downloading):
            downloading.allow(message.credit)

    def _drop(self, peer: Peer, message: m.Drop) -> None:
        """End a transfer that the peer no longer wants."""
        transfer = peer.transfers.pop(message.transfer, None)
        if transfer is not None:
            transfer.abandon()

    def _end(self, peer: Peer, transfer: int) -> None:
        peer.transfers.pop(transfer, None)

    async def _upload(self, peer: Peer, message: m.Put, uploading: Uploading) -> None:
        opened: list[Upload] = []
        try:
            with _refusals(peer, message.id):
                upload = await self._begin(peer, message, opened)
                await self._receive(peer, message, uploading, upload)
                async with self._writing:
                    await off_loop(self._executor, upload.finish)
                opened.clear()
                await self._on_stored(peer, message.hash, message.size)
                peer.send(m.Stored(message.id, message.hash))
        finally:
            self._end(peer, message.id)
            for left in opened:
                await off_loop(self._executor, left.suspend)

    async def _begin(self, peer: Peer, message: m.Put, opened: list[Upload]) -> Upload:
        """Open the upload; it is in ``opened`` even where the waiting for it is cancelled, so it cannot leak."""

        def begin() -> Upload:
            owner, limit = f"{self._role}.{peer.user}", self._own_bytes(peer)
            opened.append(self._store.begin(message.hash, message.size, owner, limit, known=known))
            return opened[-1]

        known = self._may_read(peer, message.hash)
        try:
            return await off_loop(self._executor, begin)
        except (DiskFull, QuotaExceeded):
            if not await self._make_room(peer, message.size):
                raise
        return await off_loop(self._executor, begin)

    async def _receive(self, peer: Peer, message: m.Put, uploading: Uploading, upload: Upload) -> None:
        received = upload.offset
        if received < message.size:
            peer.send(m.Want(message.id, received, limits.CREDIT))
        while received < message.size:
            chunk = await uploading.next()
            if chunk.total != message.size:
                raise ProtocolError(
                    f"A transfer of {message.size} bytes continued with a chunk of one of {chunk.total}."
                )
            async with self._writing:
                await off_loop(self._executor, upload.write, chunk.offset, chunk.data)
            received += len(chunk.data)
            peer.send(m.More(message.id, 1))

    async def _download(self, peer: Peer, message: m.Get, downloading: Downloading) -> None:
        try:
            with _refusals(peer, message.id):
                total = await off_loop(self._executor, self._store.size, message.hash)
                offset = message.offset
                digest = hashlib.sha256() if offset == 0 else None
                if offset >= total:
                    raise InvalidRequest(f"offset: the blob ends at {total}, before {offset}.", field="offset")
                while offset < total:
                    await downloading.spend()
                    data = await self._read(peer, message.hash, offset, total, digest)
                    if not peer.send(m.Chunk(message.id, offset, total, data)):
                        return
                    offset += len(data)
        finally:
            self._end(peer, message.id)

    async def _read(self, peer: Peer, blob: str, offset: int, total: int, digest: _Hash | None) -> bytes:
        """Read the next chunk of a download once its client has read enough of those before."""
        size = min(limits.CHUNK_BYTES, total - offset)
        await peer.backlog.room(size)
        try:
            return await off_loop(self._executor, self._checked, blob, offset, total, digest)
        finally:
            peer.backlog.give_back(size)

    def _checked(self, blob: str, offset: int, total: int, digest: _Hash | None) -> bytes:
        """The next chunk; raises BlobDamaged, before the last one, where the bytes are not those of the hash."""
        try:
            data = self._store.read(blob, offset, limits.CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # a part of the disk that cannot be read: the file is damaged
        if digest is not None:
            digest.update(data)
        wrong = digest is not None and offset + len(data) == total and digest.hexdigest() != blob
        if wrong or not data:
            self._store.verify(blob)
            raise BlobMismatch("The stored picture was read wrongly.", "Try again, and check the daemon's disk.")
        return data


def _end_upload(account: Account) -> None:
    account.uploads -= 1


def _end_download(account: Account) -> None:
    account.downloads -= 1


@contextmanager
def _refusals(peer: Peer, transfer: int) -> Iterator[None]:
    """Tell the peer why a transfer ends early."""
    try:
        yield
    except QiedError as error:
        peer.refuse(error, transfer)
    except OSError as error:
        _log.exception("a transfer failed because of the disk", user=peer.user)
        peer.refuse(disk_failure("The daemon's disk failed", error), transfer)


def _unknown(blob_hash: str) -> UnknownBlob:
    return UnknownBlob(f"You have no blob {blob_hash[:12]}….", "Upload it (again) first.", hash=blob_hash)

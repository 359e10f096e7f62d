"""Pictures ready to travel, and uploads that all who need the same picture at the same time share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

from qied_client.aio.listener import Tell
from qied_client.errors import BlobTooLarge, InvalidRequest, PictureError
from qied_client.inputs import Picture, picture_bytes
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import messages as m
from qied_client.results import Progress
from qied_client.transfers import hash_of


class PictureUpload:
    """One picture ready to travel. That of a path gives its bytes up once they are sent, and reads them again.

    ``option`` is what it was given as, for errors.
    """

    def __init__(self, picture: Picture, option: str = "images") -> None:
        with _naming_its_file(picture):
            data = picture_bytes(picture, option)
            self.size = m.ImageSize(*read_header(BytesIO(data), PictureLimits()).displayed_size)
        self._option = option
        self._path = picture if isinstance(picture, (str, os.PathLike)) else None
        self._data: bytes | None = data
        self.hash = hash_of(data)

    def read(self) -> bytes:
        """The bytes; raises InvalidRequest where the file has changed."""
        if self._data is None:
            assert self._path is not None, "only the bytes of a file are given up"
            data = picture_bytes(self._path, self._option)
            if hash_of(data) != self.hash:
                raise InvalidRequest(
                    f"{os.fspath(self._path)}: the file has changed while it was being sent.",
                    "Edit it once it is complete.",
                    field=self._option,
                )
            self._data = data
        return self._data

    def give_up_bytes(self) -> None:
        """They are with the daemon; while the edit waits for its place, memory is for others."""
        if self._path is not None:
            self._data = None


@contextmanager
def _naming_its_file(picture: Picture) -> Iterator[None]:
    """Errors about a picture that was given as a path begin with it: an edit may have several."""
    try:
        yield
    except (BlobTooLarge, PictureError) as error:
        if isinstance(picture, (str, os.PathLike)):
            error.message = f"{os.fspath(picture)}: {error.message}"
        raise


class SharedUpload:
    """One upload under way, and all who wait for it."""

    def __init__(self, work: Callable[[Tell], Awaitable[None]], on_end: Callable[[SharedUpload], None]) -> None:
        self.waiting: dict[asyncio.Future[None], Tell] = {}
        self.task = asyncio.create_task(self._run(work, on_end))

    async def _run(self, work: Callable[[Tell], Awaitable[None]], on_end: Callable[[SharedUpload], None]) -> None:
        error: Exception | None = None
        try:
            await work(self._tell_all)
        except Exception as failure:  # noqa: BLE001 - it is raised to those who wait
            error = failure
        on_end(self)  # before the answers: who comes later begins another upload
        for answer in self.waiting:
            if not answer.done():
                answer.set_result(None) if error is None else answer.set_exception(error)

    def _tell_all(self, news: Progress) -> None:
        for tell in list(self.waiting.values()):
            tell(news)


class SharedUploads:
    """The uploads under way, by the hashes of their blobs."""

    def __init__(self) -> None:
        self._under_way: dict[str, SharedUpload] = {}

    async def bring(self, blob_hash: str, work: Callable[[Tell], Awaitable[None]], tell: Tell) -> None:
        """Upload a blob, or wait for the one who does; ``tell`` must not raise.

        It ends when the last who waits for it gives up, not when the one who began it does.
        """
        shared = self._under_way.get(blob_hash)
        if shared is None:
            shared = self._under_way[blob_hash] = SharedUpload(work, lambda ended: self._forget(blob_hash, ended))
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shared.waiting[answer] = tell
        try:
            await answer
        finally:
            del shared.waiting[answer]
            if not shared.waiting and not shared.task.done():
                self._forget(blob_hash, shared)
                shared.task.cancel()

    def _forget(self, blob_hash: str, shared: SharedUpload) -> None:
        if self._under_way.get(blob_hash) is shared:
            del self._under_way[blob_hash]

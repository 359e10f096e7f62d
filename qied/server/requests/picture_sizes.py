"""Sizes of stored pictures, and whether they can be transparent, read from their headers once."""

from __future__ import annotations

from concurrent.futures import Executor

from qied_client.picture_header import PictureLimits, read_header

from qied.pictures.plugins import check_decodable
from qied.planning.requests.request_defaults import Size
from qied.server.blobs.store import BlobStore
from qied.server.off_loop import off_loop

_REMEMBERED = 4096


class PictureSizes:
    """Displayed sizes of pictures of at most ``max_pixels``."""

    def __init__(self, store: BlobStore, executor: Executor, max_pixels: int) -> None:
        self._store = store
        self._executor = executor
        self._limits = PictureLimits(max_pixels=max_pixels)
        self._headers: dict[str, tuple[Size, bool]] = {}

    async def of(self, blob: str) -> Size:
        """Displayed width and height of a stored picture, in pixels; raises PictureError and its kinds."""
        return (await self._known(blob))[0]

    async def may_be_transparent(self, blob: str) -> bool:
        """Whether a stored picture can be transparent somewhere; raises PictureError and its kinds."""
        return (await self._known(blob))[1]

    async def _known(self, blob: str) -> tuple[Size, bool]:
        if blob not in self._headers:
            measured = await off_loop(self._executor, self._measured, blob)
            if len(self._headers) > _REMEMBERED:
                self._headers.clear()
            self._headers[blob] = measured
        return self._headers[blob]

    def _measured(self, blob: str) -> tuple[Size, bool]:
        with self._store.open_read(blob) as file:
            header = read_header(file, self._limits)
        check_decodable(header.format)
        return header.displayed_size, header.alpha

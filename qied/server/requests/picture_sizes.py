"""Sizes of stored pictures, read from their headers once."""

from __future__ import annotations

from concurrent.futures import Executor

from qied_client.picture_header import PictureLimits, read_header

from qied.pictures.plugins import check_decodable
from qied.planning.request_defaults import Size
from qied.server.blobs.store import BlobStore
from qied.server.off_loop import off_loop

_REMEMBERED = 4096


class PictureSizes:
    """Displayed sizes of pictures of at most ``max_pixels``."""

    def __init__(self, store: BlobStore, executor: Executor, max_pixels: int) -> None:
        self._store = store
        self._executor = executor
        self._limits = PictureLimits(max_pixels=max_pixels)
        self._sizes: dict[str, Size] = {}

    async def of(self, blob: str) -> Size:
        """Displayed width and height of a stored picture, in pixels; raises PictureError and its kinds."""
        if blob not in self._sizes:
            size = await off_loop(self._executor, self._measured, blob)
            if len(self._sizes) > _REMEMBERED:
                self._sizes.clear()
            self._sizes[blob] = size
        return self._sizes[blob]

    def _measured(self, blob: str) -> Size:
        with self._store.open_read(blob) as file:
            header = read_header(file, self._limits)
        check_decodable(header.format)
        return header.displayed_size

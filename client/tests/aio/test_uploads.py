"""Uploads of the same picture at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from qied_client import Progress
from qied_client.aio.listener import Tell
from qied_client.aio.uploads import PictureUpload, SharedUploads
from qied_client.errors import InvalidRequest, QueueFull


class Uploading:
    """Counts uploads, which end when they are told."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tell: Tell = lambda news: None

    async def __call__(self, tell: Tell) -> None:
        self.begun += 1
        self.tell = tell
        try:
            await asyncio.shield(self.ended)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def nothing(news: Progress) -> None:
    pass


async def test_are_one_and_all_hear_how_it_goes() -> None:
    uploads, work = SharedUploads(), Uploading()
    heard: list[tuple[int, int]] = []
    tasks = [
        asyncio.create_task(uploads.bring("a", work, lambda news, who=who: heard.append((who, news.done))))
        for who in range(3)
    ]
    await asyncio.sleep(0.01)
    work.tell(Progress("upload", 5, 10))
    assert (work.begun, heard) == (1, [(0, 5), (1, 5), (2, 5)])
    work.ended.set_result(None)
    await asyncio.gather(*tasks)
    await uploads.bring("a", work, nothing)
    assert work.begun == 2, "the daemon may have lost it since"


async def test_end_when_the_last_gives_up_not_when_the_first_does() -> None:
    uploads, work = SharedUploads(), Uploading()
    first, second = (asyncio.create_task(uploads.bring("a", work, nothing)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (work.cancelled, second.done()) == (0, False)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert work.cancelled == 1
    third = asyncio.create_task(uploads.bring("a", work, nothing))
    await asyncio.sleep(0.01)
    work.ended.set_result(None)
    await third


async def test_fail_for_all() -> None:
    uploads, work = SharedUploads(), Uploading()
    tasks = [asyncio.create_task(uploads.bring("a", work, nothing)) for _ in range(3)]
    await asyncio.sleep(0.01)
    work.ended.set_exception(QueueFull("Full."))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [QueueFull] * 3


def test_a_file_is_read_again_unless_it_has_changed(tmp_path: Path, picture: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture)
    upload = PictureUpload(path)
    upload.give_up_bytes()
    assert upload._data is None
    assert upload.read() == picture
    upload.give_up_bytes()
    path.write_bytes(picture + b"more")
    with pytest.raises(InvalidRequest, match=r"a\.png: the file has changed"):
        upload.read()


def test_bytes_are_kept(picture: bytes) -> None:
    upload = PictureUpload(picture)
    upload.give_up_bytes()
    assert upload.read() is picture

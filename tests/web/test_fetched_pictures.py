"""Pictures that the gateway has fetched and not sent yet take room, however many callers wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import httpx
from qied_client.aio import AsyncJob
from qied_client.results import Result
from qied_client.web import images_api
from qied_client.web.forms import EditForm

from tests.web.conftest import GatewayProcess

CALLERS = 4
NARROW = """
import asyncio, pathlib
from qied_client.web.http import bodies
from qied_client.web.pixels import workshop
bodies.Room.__init__.__defaults__ = ({most},)
done = workshop.Workshop.do
async def slow(self, *args, **options):
    while not pathlib.Path({gate!r}).exists():
        await asyncio.sleep(0.02)
    return await done(self, *args, **options)
workshop.Workshop.do = slow
"""
"""A gateway with room for one picture of a user, where converting one takes until a file exists."""


def test_pictures_that_wait_to_be_converted_take_room(shared_daemon, tmp_path, picture):
    with shared_daemon.client() as client:
        job = client.submit(picture, "x", steps=1)
        size = len(job.result(timeout=60).bytes)
    gate = tmp_path / "gate"
    first = NARROW.format(most=3 * size, gate=str(gate))
    gateway = GatewayProcess(shared_daemon.key, tmp_path / "tokens.json", first=first)
    headers = {"Authorization": f"Bearer {gateway.tokens.add('local')[0]}"}

    def fetch() -> int:
        url = f"{gateway.url}/api/jobs/{job.id}/result?format=webp"
        return httpx.get(url, headers=headers, timeout=60, trust_env=False).status_code

    try:
        with ThreadPoolExecutor(CALLERS) as threads:
            coming = as_completed([threads.submit(fetch) for _ in range(CALLERS)], timeout=30)
            try:
                refused = [next(coming).result() for _ in range(CALLERS - 1)]
            finally:
                gate.touch()
            assert refused == [503] * (CALLERS - 1)
            assert next(coming).result() == 200
    finally:
        gateway.kill()


class Job(AsyncJob):
    """One whose outcome comes when it is told; pictures that were fetched are counted."""

    def __init__(self, fetched: list[str], name: str) -> None:
        self.id = name
        self._fetched = fetched
        self.ended = asyncio.Event()

    async def events(self) -> AsyncIterator[Any]:  # type: ignore[override]
        await self.ended.wait()
        for _ in ():
            yield

    async def outcome(self) -> Any:
        await self.ended.wait()
        return SimpleNamespace(error=lambda: None)

    async def result(self, **_: Any) -> Result:
        await self.ended.wait()
        self._fetched.append(self.id)
        return Result(b"picture", "image/png", 1, 1, 0, {}, self.id)


def jobs_of(fetched: list[str]) -> list[Job]:
    return [Job(fetched, str(number)) for number in range(3)]


async def test_no_picture_of_an_answer_is_fetched_before_all_are_there():
    fetched: list[str] = []
    first, *others = jobs_of(fetched)
    waiting = asyncio.ensure_future(images_api._results([first, *others]))
    first.ended.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert fetched == []
    for job in others:
        job.ended.set()
    assert [each.job for each in await waiting] == ["0", "1", "2"]


async def test_a_stream_that_is_not_read_holds_one_picture(monkeypatch):
    monkeypatch.setattr(images_api, "_completed", lambda form, result: (result.job or "").encode())
    fetched: list[str] = []
    jobs = jobs_of(fetched)
    for job in jobs:
        job.ended.set()
    form: EditForm = SimpleNamespace(partial_images=0)  # type: ignore[assignment]
    edits: Any = SimpleNamespace(form=form, jobs=jobs)
    stream = images_api._stream(edits, AsyncExitStack())
    first = await anext(stream)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(fetched) == 1
    assert {first, *[each async for each in stream]} == {b"0", b"1", b"2"}

"""A real daemon, and clients whose event loops are as on Windows: they cannot watch sockets, and pyzmq refuses them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq.asyncio
from qied_client import AsyncClient
from qied_client.errors import DaemonUnreachable, HandshakeRefused, JobCancelled

from qied.server.access.keys import KeyStore

_LIMIT_S = 90.0


class WindowsLoop(asyncio.SelectorEventLoop):
    """As the loop that asyncio makes on Windows, a proactor: it has none of the methods that watch sockets."""

    add_reader = asyncio.AbstractEventLoop.add_reader
    remove_reader = asyncio.AbstractEventLoop.remove_reader
    add_writer = asyncio.AbstractEventLoop.add_writer
    remove_writer = asyncio.AbstractEventLoop.remove_writer


@pytest.fixture(autouse=True)
def windows_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new loop is one of Windows, pyzmq takes its own way for Windows, and tornado, its way out, is not there."""
    monkeypatch.setattr(asyncio, "ProactorEventLoop", WindowsLoop, raising=False)
    monkeypatch.setattr(zmq.asyncio, "_get_selector", zmq.asyncio._get_selector_windows)
    monkeypatch.setitem(sys.modules, "tornado.platform.asyncio", None)
    for place in (asyncio, asyncio.events):
        monkeypatch.setattr(place, "new_event_loop", WindowsLoop)


@pytest.fixture
def use(shared_daemon: Any) -> Callable[[Callable[[AsyncClient], Awaitable[Any]]], Any]:
    """Run something with a client of the daemon in a loop of its own, and see that it leaves no thread."""

    async def connected(work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(_LIMIT_S), shared_daemon.async_client() as client:
            return await work(client)

    def run(work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        done = asyncio.run(connected(work))
        assert not {"qied client", "qied connection"} & {thread.name for thread in threading.enumerate()}
        return done

    return run


def test_a_whole_edit_gives_the_same_picture_by_both_clients(use: Any, shared_daemon: Any, picture: bytes) -> None:
    kinds: list[str] = []

    async def edit(client: AsyncClient) -> bytes:
        loop = asyncio.get_running_loop()

        def hear(news: Any) -> None:
            assert asyncio.get_running_loop() is loop
            kinds.append(news.kind)

        return (await client.edit(picture, "x", seed=7, steps=3, on_progress=hear)).bytes

    by_asyncio = use(edit)
    assert {"upload", "started", "step", "download"} <= set(kinds)
    with shared_daemon.client() as client:
        job = client.submit(picture, "x", seed=7, steps=3)
        assert "step" in [news.kind for news in job.events()]
        assert job.result(timeout=_LIMIT_S).bytes == by_asyncio


def test_twenty_edits_at_once_give_their_own_pictures(start_daemon: Any, picture: bytes) -> None:
    daemon = start_daemon(QIED_LIMITS_UPLOADS_PER_CLIENT="20")

    async def edit() -> list[bytes]:
        async with asyncio.timeout(_LIMIT_S), daemon.async_client() as client:
            edits = [client.edit(picture, "x", seed=1 + seed % 10, steps=2) for seed in range(20)]
            return [result.bytes for result in await asyncio.gather(*edits)]

    pictures = asyncio.run(edit())
    assert pictures[:10] == pictures[10:]
    assert len(set(pictures)) == 10


def test_a_job_is_cancelled_while_it_runs(use: Any, picture: bytes, tmp_path: Path) -> None:
    async def cancel(client: AsyncClient) -> None:
        job = await client.submit(picture, f"gate={tmp_path / 'gate'}", steps=5)
        waiting = asyncio.create_task(job.result())
        async for news in job.events():
            if news.kind == "started":
                assert await job.cancel() == "cancelled"
                (tmp_path / "gate").touch()
        with pytest.raises(JobCancelled):
            await waiting

    use(cancel)


def test_who_gives_up_waiting_can_take_the_job_up_again(use: Any, picture: bytes, tmp_path: Path) -> None:
    async def give_up(client: AsyncClient) -> None:
        job = await client.submit(picture, f"gate={tmp_path / 'gate'}", steps=2, job_id="given-up")
        waiting = asyncio.create_task(job.result())
        async for news in job.events():
            if news.kind == "started":
                break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (tmp_path / "gate").touch()
        again = await client.job("given-up")
        assert (await again.result()).bytes

    use(give_up)


def test_closing_frees_who_waits(use: Any, picture: bytes, tmp_path: Path) -> None:
    async def close(client: AsyncClient) -> None:
        job = await client.submit(picture, f"gate={tmp_path / 'gate'}")
        waiting = asyncio.create_task(job.result())
        await client.close()
        with pytest.raises(DaemonUnreachable, match="closed"):
            await waiting
        (tmp_path / "gate").touch()

    use(close)


def test_who_is_not_let_in_hears_it(shared_daemon: Any) -> None:
    key = shared_daemon.enrol("gone")
    KeyStore(shared_daemon.home).remove("gone")

    async def connect() -> None:
        client = AsyncClient(key)
        try:
            with pytest.raises(HandshakeRefused):
                await client.connect()
        finally:
            await client.close()

    asyncio.run(connect())
    with pytest.raises(HandshakeRefused):
        shared_daemon.client(key)

"""Both clients where loops are as on Windows: they cannot watch sockets, and pyzmq refuses them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from qied_client import AsyncClient, Client, Progress
from qied_client.errors import (
    CredentialsMissing,
    DaemonUnreachable,
    InvalidRequest,
    QiedError,
    RequestTimeout,
    SocketUnavailable,
    UnknownJob,
)
from qied_client.net.driver import Driver
from qied_client.protocol import messages as m

_LIMIT_S = 60.0
Use = Callable[[AsyncClient], Awaitable[Any]]


@pytest.fixture
def use(daemon: Any, windows_loops: None) -> Callable[[Use], Any]:
    """Run something with a client that is connected, and close it; nothing of its thread stays."""

    async def connected(work: Use) -> Any:
        async with asyncio.timeout(_LIMIT_S), AsyncClient(daemon.key) as client:
            return await work(client)

    def run(work: Use) -> Any:
        done = asyncio.run(connected(work))
        assert "qied connection" not in threads()
        return done

    return run


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


async def heard(daemon: Any, kind: type[m.Message]) -> Any:
    return await asyncio.to_thread(daemon.wait_for, kind)


def silent_on(kind: type[m.Message]) -> Callable[[m.Message], list[m.Message] | None]:
    return lambda message: [] if isinstance(message, kind) else None


async def failure_of(work: Awaitable[Any]) -> QiedError:
    with pytest.raises(QiedError) as caught:
        await asyncio.wait_for(work, _LIMIT_S)
    return caught.value


def test_what_is_emulated_here_is_refused_by_pyzmq(daemon: Any, windows_loops: None) -> None:
    async def main() -> None:
        client = AsyncClient(daemon.key, patience=0.2)
        client._made = Driver(
            client._connection(), client._endpoint, lambda message: None, lambda error: None, patience_s=0.2
        )
        try:
            error = await failure_of(client.connect())
        finally:
            await client.close()
        assert type(error) is SocketUnavailable
        assert "its event loop has no add_reader" in error.message
        assert "ulimit" in error.remedy

    asyncio.run(main())


def test_an_edit_works_and_its_news_come_in_the_callers_loop(use: Callable[[Use], Any], picture: bytes) -> None:
    places: set[tuple[int, asyncio.AbstractEventLoop]] = set()
    news: list[str] = []

    def hear(progress: Progress) -> None:
        places.add((threading.get_ident(), asyncio.get_running_loop()))
        news.append(progress.kind)

    async def work(client: AsyncClient) -> None:
        result = await client.edit(picture, "Make it night.", seed=7, on_progress=hear)
        assert (result.bytes, result.seed) == (picture, 7)
        assert places == {(threading.get_ident(), asyncio.get_running_loop())}

    use(work)
    assert [kind for kind in news if kind not in ("upload", "download")] == ["queued", "step", "preview"]
    assert {"upload", "download"} < set(news)


def test_twenty_edits_at_once_work(use: Callable[[Use], Any], picture: bytes) -> None:
    async def work(client: AsyncClient) -> list[int]:
        results = await asyncio.gather(*(client.edit(picture, "x", seed=seed) for seed in range(20)))
        return [result.seed for result in results]

    assert use(work) == list(range(20))


def test_events_can_be_iterated_and_a_job_taken_up_again(use: Callable[[Use], Any], picture: bytes) -> None:
    async def work(client: AsyncClient) -> list[str]:
        job = await client.submit(picture, "x", job_id="mine")
        first = [news.kind async for news in job.events()]
        again = await client.job("mine")
        assert [news.kind async for news in again.events()] == first
        assert await again.cancel() == "finished"
        return first

    assert use(work) == ["queued", "step", "preview"]


def test_a_session_works(use: Callable[[Use], Any], picture: bytes) -> None:
    async def work(client: AsyncClient) -> int:
        session = await client.session(picture)
        await session.edit("Make it night.")
        return await session.undo()

    assert use(work) == 0


def test_typed_errors_and_timeouts_come_through(use: Callable[[Use], Any], daemon: Any, picture: bytes) -> None:
    async def work(client: AsyncClient) -> None:
        assert type(await failure_of(client.job("none"))) is UnknownJob
        daemon.before = silent_on(m.Submit)
        assert type(await failure_of(client.edit(picture, "x", timeout=0.2))) is RequestTimeout
        daemon.before = lambda message: None
        assert (await client.status()).model == "echo"

    use(work)


def test_who_gives_a_transfer_up_ends_it_at_the_daemon(use: Callable[[Use], Any], daemon: Any) -> None:
    async def work(client: AsyncClient) -> None:
        daemon.before = silent_on(m.Get)
        waiting = asyncio.create_task(client.download("0" * 64))
        get = await heard(daemon, m.Get)
        waiting.cancel()
        assert (await heard(daemon, m.Drop)).transfer == get.id
        with pytest.raises(asyncio.CancelledError):
            await waiting

    use(work)


def test_an_error_in_a_callers_callback_is_that_callers_alone(
    use: Callable[[Use], Any], daemon: Any, picture: bytes
) -> None:
    def broken(progress: Progress) -> None:
        raise ZeroDivisionError("a defect of the caller")

    async def work(client: AsyncClient) -> None:
        with pytest.raises(ZeroDivisionError):
            await client.submit(picture, "x", on_progress=broken)
        assert (await client.status()).model == "echo"

    use(work)


def test_a_restarted_daemon_is_found_again(use: Callable[[Use], Any], daemon: Any) -> None:
    async def work(client: AsyncClient) -> None:
        daemon.before = silent_on(m.Status)
        pending = asyncio.create_task(client.status())
        await heard(daemon, m.Status)
        await asyncio.to_thread(daemon.stop)
        daemon.before = lambda message: None
        await asyncio.to_thread(daemon.start)
        assert (await pending).model == "echo"

    use(work)


def test_who_waits_for_a_job_hears_that_the_daemon_is_gone(daemon: Any, windows_loops: None, picture: bytes) -> None:
    async def main() -> None:
        async with asyncio.timeout(_LIMIT_S), AsyncClient(daemon.key, patience=0.2) as client:
            daemon.before = lambda message: (
                [m.Resumed(message.id, message.job, "running")] if isinstance(message, m.Resume) else None
            )
            job = await client.submit(picture, "x")
            waiting = asyncio.create_task(job.result())
            await asyncio.to_thread(daemon.stop)
            assert type(await failure_of(waiting)) is DaemonUnreachable

    asyncio.run(main())


def test_closing_fails_what_waits_and_can_be_repeated(daemon: Any, windows_loops: None) -> None:
    async def main() -> None:
        client = AsyncClient(daemon.key)
        await client.connect()
        daemon.before = silent_on(m.Status)
        waiting = asyncio.create_task(client.status())
        await heard(daemon, m.Status)
        await client.close()
        await heard(daemon, m.Bye)
        await client.close()
        assert "qied connection" not in threads()
        for work in (waiting, client.status(), client.connect(), client.download("0" * 64)):
            assert "closed" in (await failure_of(work)).message

    asyncio.run(main())


def test_a_client_that_was_never_used_is_closed_without_a_thread(daemon: Any, windows_loops: None) -> None:
    async def main() -> None:
        client = AsyncClient(daemon.key)
        await client.close()
        assert "closed" in (await failure_of(client.status())).message
        assert "qied connection" not in threads()

    asyncio.run(main())


def test_where_there_is_no_daemon_the_patience_ends(daemon: Any, free_address: str, windows_loops: None) -> None:
    async def main() -> None:
        for key, address, kind in (
            (daemon.key, free_address, DaemonUnreachable),
            (daemon.key, "nowhere", InvalidRequest),
            (daemon.key.with_name("absent"), None, CredentialsMissing),
        ):
            client = AsyncClient(key, address=address, patience=0.1)
            assert type(await failure_of(client.connect())) is kind
            await client.close()
        assert "qied connection" not in threads()

    asyncio.run(main())


def test_a_caller_that_ends_its_loop_without_closing_disturbs_nobody(daemon: Any, windows_loops: None) -> None:
    async def main() -> AsyncClient:
        client = AsyncClient(daemon.key)
        await client.connect()
        return client

    left = asyncio.run(main())
    daemon.send(m.Event("job", 1, "started"))
    daemon.wait_for(m.Ping)
    bridge = left._made
    assert bridge is not None
    asyncio.run(bridge.close())
    assert "qied connection" not in threads()


async def test_a_loop_that_can_watch_sockets_is_used_itself(daemon: Any) -> None:
    async with AsyncClient(daemon.key) as client:
        assert isinstance(client._made, Driver)
        assert "qied connection" not in threads()


def test_the_synchronous_client_works(daemon: Any, windows_loops: None, picture: bytes) -> None:
    with Client(daemon.key) as client:
        assert client.edit(picture, "x", seed=3, timeout=_LIMIT_S).bytes == picture
        assert [news.kind for news in client.submit(picture, "x").events()] == ["queued", "step", "preview"]
    assert not {"qied client", "qied connection"} & threads()


def test_a_wait_in_slices_is_a_wait(daemon: Any, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied_client.net.interrupts._SLICE_S", 0.001)
    with Client(daemon.key) as client:
        assert client.edit(picture, "x", timeout=_LIMIT_S).bytes == picture

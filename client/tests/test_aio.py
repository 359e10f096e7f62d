"""The asyncio client against the small daemon over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from qied_client import AsyncClient, Progress
from qied_client.errors import (
    AboveCap,
    DaemonUnreachable,
    InvalidRequest,
    JobFailed,
    NothingToUndo,
    RequestTimeout,
    UnknownJob,
    UnknownSession,
    UnknownTurn,
    UnsupportedPicture,
)
from qied_client.protocol import messages as m
from qied_client.transfers import hash_of


@pytest.fixture
async def client(daemon: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.key) as client:
        yield client


def silent_on(kind: type[m.Message]) -> Callable[[m.Message], list[m.Message] | None]:
    return lambda message: [] if isinstance(message, kind) else None


async def heard(daemon: Any, kind: type[m.Message]) -> Any:
    return await asyncio.to_thread(daemon.wait_for, kind)


async def test_an_edit_brings_the_picture_and_how_it_was_made(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    news: list[Progress] = []
    result = await client.edit(picture, "Make it night.", seed=7, on_progress=news.append)
    assert result.bytes == picture
    assert (result.media_type, result.seed, result.timings) == ("image/png", 7, {"held_ms": 12.5})
    assert [one.kind for one in news if one.kind not in ("upload", "download")] == ["queued", "step", "preview"]
    assert {one.kind for one in news} > {"upload", "download"}
    assert news[-1].preview == b"" or news[-1].kind == "download"
    assert (await heard(daemon, m.Release)).job == result.job


async def test_everything_that_was_asked_for_arrives(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    await client.submit(
        [picture, picture],
        "Make it night.",
        seed=3,
        negative_prompt="blur",
        steps=9,
        true_cfg_scale=2,
        width=64,
        height=128,
        preset="draft",
        precision="bf16",
        loras=["one", ("two", 0.5)],
        mask=picture,
        on_cap="fit",
        output_format="webp",
        previews=False,
    )
    submit = await heard(daemon, m.Submit)
    request = submit.request
    assert request.images == (hash_of(picture),) * 2
    assert request.mask == hash_of(picture)
    assert [(lora.name, lora.strength) for lora in request.loras] == [("one", 1.0), ("two", 0.5)]
    assert (request.steps, request.true_cfg_scale, request.width, request.height) == (9, 2.0, 64, 128)
    assert submit.payload_hash == request.payload_hash()


async def test_a_request_above_the_cap_is_refused_before_anything_is_uploaded(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    refusal = AboveCap("Too large.", "Ask for 64x64.", nearest_width=64, nearest_height=64)
    daemon.before = lambda message: [m.Failure.of(refusal, message.id)] if isinstance(message, m.Quote) else None
    with pytest.raises(AboveCap) as caught:
        await client.edit(picture, "x")
    assert caught.value.details == {"nearest_width": 64, "nearest_height": 64}
    assert daemon.blobs == {}


@pytest.mark.parametrize(
    ("options", "field"),
    [({"steps": 0}, "steps"), ({"prompt": ""}, "prompt"), ({"seed": -1}, "seed"), ({"width": 64}, "width")],
)
async def test_a_wrong_option_is_named_before_anything_is_sent(
    client: AsyncClient, picture: bytes, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.edit(picture, **{"prompt": "x", **options})
    assert caught.value.details["field"] == field


async def test_what_is_no_picture_is_refused_here(client: AsyncClient, daemon: Any) -> None:
    with pytest.raises(UnsupportedPicture):
        await client.edit(b"GIF89a", "x")
    with pytest.raises(InvalidRequest):
        await client.submit(b"", "x", job_id="not a name", steps=0)
    assert daemon.blobs == {}


async def test_a_bad_job_id_is_an_invalid_request(client: AsyncClient, picture: bytes) -> None:
    with pytest.raises(InvalidRequest, match="job"):
        await client.submit(picture, "x", job_id="not a name")
    with pytest.raises(InvalidRequest, match="job"):
        await client.cancel("not a name")
    with pytest.raises(InvalidRequest, match="job"):
        await client.job("not a name")


async def test_a_job_can_be_taken_up_again_and_its_events_come_from_the_beginning(
    client: AsyncClient, picture: bytes
) -> None:
    job = await client.submit(picture, "x", job_id="mine")
    assert (await job.result()).bytes == picture
    again = await client.job("mine")
    assert [news.kind async for news in again.events()] == ["queued", "step", "preview"]
    assert (await again.outcome()).state == "succeeded"
    assert await again.cancel() == "finished"
    with pytest.raises(UnknownJob):
        await client.job("another")


async def test_who_stops_waiting_for_a_job_takes_nothing_from_who_waits_too(
    client: AsyncClient, daemon: Any, picture: bytes
) -> None:
    await (await client.submit(picture, "x", job_id="mine")).result()
    await heard(daemon, m.Resume)
    daemon.before = silent_on(m.Resume)
    impatient, patient = (asyncio.create_task(client.job("mine")) for _ in range(2))
    resume = await heard(daemon, m.Resume)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    for answer in daemon.answer(resume):
        daemon.send(answer)
    assert (await (await patient).result()).bytes == picture


async def test_all_who_take_up_an_unknown_job_hear_of_it(client: AsyncClient, daemon: Any) -> None:
    results = await asyncio.gather(client.job("none"), client.job("none"), return_exceptions=True)
    assert [type(result) for result in results] == [UnknownJob, UnknownJob]


async def test_a_job_without_a_result_in_time_goes_on(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    def begun(message: m.Message) -> list[m.Message] | None:
        return [m.Resumed(message.id, message.job, "running")] if isinstance(message, m.Resume) else None

    daemon.before = begun
    job = await client.submit(picture, "x", job_id="mine")
    with pytest.raises(RequestTimeout, match="mine"):
        await job.result(timeout=0.05)
    daemon.send(daemon._news(daemon.jobs["mine"])[-1])
    assert (await job.result(timeout=10)).bytes == picture


async def test_a_job_that_failed_raises_its_error(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    def failed(message: m.Message) -> list[m.Message] | None:
        if not isinstance(message, m.Resume):
            return None
        outcome = m.Result(message.job, 1, "failed", code="job_failed", message="The engine failed.", remedy="Retry.")
        return [m.Resumed(message.id, message.job, "failed"), outcome]

    daemon.before = failed
    with pytest.raises(JobFailed, match=r"The engine failed\. Retry\."):
        await client.edit(picture, "x")


async def test_an_error_in_on_progress_reaches_its_caller_and_the_client_goes_on(
    client: AsyncClient, picture: bytes
) -> None:
    def broken(news: Progress) -> None:
        raise ZeroDivisionError(news.kind)

    with pytest.raises(ZeroDivisionError, match="upload"):
        await client.edit(picture, "x", on_progress=broken)
    assert (await client.edit(picture, "x")).bytes == picture


async def test_a_session_goes_forth_and_back(client: AsyncClient, picture: bytes) -> None:
    session = await client.session(picture)
    with pytest.raises(NothingToUndo):
        await session.undo()
    assert (await session.result()).bytes == picture
    with pytest.raises(UnknownTurn):
        await session.result(1)
    result = await session.edit("Make it night.")
    assert (result.bytes, result.turn, session.head) == (picture, 1, 1)
    assert [turn.turn for turn in await session.history()] == [1]
    assert (await session.result(1)).bytes == picture
    again = await client.take_up_session(session.name)
    assert (again.head, again.source) == (1, hash_of(picture))
    assert await again.undo() == 0
    await again.close()
    with pytest.raises(UnknownSession):
        await client.take_up_session("another")


async def test_a_quote_uploads_nothing(client: AsyncClient, daemon: Any, picture: bytes) -> None:
    assert (await client.quote(picture, "x", mask=picture)).fits
    quote = await heard(daemon, m.Quote)
    assert quote.sizes == (m.ImageSize(64, 64),)
    assert daemon.blobs == {}


async def test_many_calls_share_a_client_that_has_not_connected_yet(daemon: Any) -> None:
    client = AsyncClient(daemon.key)
    async with asyncio.timeout(10):
        reports = await asyncio.gather(*(client.status() for _ in range(8)))
    assert {report.model for report in reports} == {"echo"}
    await client.close()


async def test_a_running_edit_survives_a_restart_of_the_daemon(
    daemon: Any, client: AsyncClient, picture: bytes
) -> None:
    daemon.before = silent_on(m.Resume)
    editing = asyncio.create_task(client.edit(picture, "x"))
    await heard(daemon, m.Resume)
    await asyncio.to_thread(daemon.stop)
    daemon.before = lambda message: None
    await asyncio.to_thread(daemon.start)
    assert (await editing).bytes == picture


async def test_a_job_of_a_daemon_that_stays_away_fails_and_can_be_taken_up_once_it_is_back(
    daemon: Any, picture: bytes
) -> None:
    client = AsyncClient(daemon.key, patience=0.2)
    daemon.before = lambda message: (
        [m.Resumed(message.id, message.job, "running")] if isinstance(message, m.Resume) else None
    )
    job = await client.submit(picture, "x", job_id="mine")
    await asyncio.to_thread(daemon.stop)
    with pytest.raises(DaemonUnreachable):
        await job.result(timeout=20)
    daemon.before = lambda message: None
    await asyncio.to_thread(daemon.start)
    async with asyncio.timeout(10):
        assert (await (await client.job("mine")).result()).bytes == picture
    await client.close()

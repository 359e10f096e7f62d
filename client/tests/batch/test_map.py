"""``client.map`` against the small daemon, whose result is the first picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client import AsyncClient, BatchOutcome, Client
from qied_client.errors import DaemonUnreachable, InvalidRequest, JobFailed, UnknownBlob, UnknownOption
from qied_client.protocol import messages as m


@pytest.fixture
async def client(daemon: Any) -> AsyncIterator[AsyncClient]:
    daemon.welcome = replace(daemon.welcome, version=2)
    async with AsyncClient(daemon.key, patience=2.0) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(folder / f"p{number}.png")
    return folder


def png(shade: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (32, 32), (shade % 256, shade // 256 % 256, 0)).save(target, "PNG")
    return target.getvalue()


async def all_of(outcomes: AsyncIterator[BatchOutcome]) -> list[BatchOutcome]:
    return [outcome async for outcome in outcomes]


def submitted(daemon: Any) -> Counter[str]:
    """Jobs that were handed in, and how often each."""
    found: Counter[str] = Counter()
    while not daemon.heard.empty():
        message = daemon.heard.get()
        if isinstance(message, m.Submit):
            found[message.job] += 1
    return found


async def test_results_come_in_the_order_of_the_rows_with_their_bytes(client: AsyncClient) -> None:
    rows = [png(shade) for shade in range(20)]
    outcomes = await all_of(client.map(rows, "night", steps=4))
    assert [outcome.result.bytes for outcome in outcomes if outcome.result] == rows
    assert [outcome.index for outcome in outcomes] == list(range(1, 21))


async def test_rows_have_options_of_their_own_and_edits_are_preemptible(client: AsyncClient, daemon: Any) -> None:
    rows = [{"picture": png(1), "prompt": "day", "seed": 7, "lora": "style"}, png(2)]
    assert all(outcome.succeeded for outcome in [each async for each in client.map(rows, "night", steps=4)])
    one, other = (job.request for job in daemon.jobs.values())
    assert (one.prompt, one.seed, one.loras[0].name, one.steps, one.preemptible) == ("day", 7, "style", 4, True)
    assert (other.prompt, other.loras, other.steps, other.previews) == ("night", (), 4, False)


async def test_an_endless_iterable_is_read_a_few_ahead(client: AsyncClient) -> None:
    read = 0

    def rows() -> Iterator[bytes]:
        nonlocal read
        for read in count(1):
            yield png(read)

    outcomes = client.map(rows(), "night", at_once=4)
    got = [await anext(outcomes) for _ in range(30)]
    await outcomes.aclose()  # type: ignore[attr-defined]
    assert [outcome.index for outcome in got] == list(range(1, 31))
    assert read <= 30 + 4 + 1


async def test_a_failure_is_an_outcome_and_the_others_go_on(client: AsyncClient, daemon: Any) -> None:
    def fail(message: m.Message) -> Any:
        if isinstance(message, m.Resume) and daemon.jobs[message.job].request.prompt == "fail":
            ended = {"code": "job_failed", "message": "It said so.", "remedy": "Say something else."}
            return [m.Resumed(message.id, message.job, "failed"), m.Result(message.job, 1, "failed", **ended)]
        return None

    daemon.before = fail
    rows = [png(1), {"picture": png(2), "prompt": "fail"}, {"picture": "nowhere.png"}, png(3)]
    outcomes = await all_of(client.map(rows, "night"))
    assert [type(outcome.error) for outcome in outcomes] == [type(None), JobFailed, InvalidRequest, type(None)]


async def test_with_a_batch_id_the_same_call_is_the_same_jobs(client: AsyncClient, daemon: Any) -> None:
    for _ in range(2):
        await all_of(client.map([png(1), png(2)], "night", batch="nightly", count=2))
    assert sorted(submitted(daemon).values()) == [2, 2, 2, 2]
    assert all(job.startswith("nightly-") for job in daemon.jobs)


async def test_saved_results_are_not_edited_again_and_missing_ones_are_fetched(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    out = (str(tmp_path / "out/{stem}.png"), str(tmp_path / "out/{stem}.webp"))
    first = await all_of(client.map(folder, "night", out=out))
    assert all(path.is_file() for outcome in first for path in outcome.paths) and len(submitted(daemon)) == 5
    (tmp_path / "out/p3.webp").unlink()
    again = await all_of(client.map(folder, "night", out=out))
    assert [outcome.skipped for outcome in again] == [True, True, True, False, True]
    assert submitted(daemon) == {again[3].job: 1} and again[3].job == first[3].job
    Image.open(tmp_path / "out/p3.webp").verify()


async def test_a_picture_that_has_changed_is_edited_again(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out/{stem}.png")
    first = await all_of(client.map(folder, "night", out=out))
    (folder / "p1.png").write_bytes(png(99))
    (folder / "p2.png").touch()
    again = await all_of(client.map(folder, "night", out=out))
    assert [outcome.skipped for outcome in again] == [True, False, False, True, True]
    assert again[1].job != first[1].job and again[2].job == first[2].job, "one has other bytes, one only another time"


async def test_a_failed_edit_is_tried_again_by_the_next_run_under_another_job(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    def fail(message: m.Message) -> Any:
        if isinstance(message, m.Resume):
            ended = {"code": "job_failed", "message": "It said so.", "remedy": "Say something else."}
            return [m.Resumed(message.id, message.job, "failed"), m.Result(message.job, 1, "failed", **ended)]
        return None

    out = str(tmp_path / "out/{stem}.png")
    daemon.before = fail
    first = await all_of(client.map(folder, "night", out=out))
    assert not any(outcome.succeeded for outcome in first)
    daemon.before = lambda message: None
    again = await all_of(client.map(folder, "night", out=out))
    assert [outcome.job for outcome in again] == [f"{outcome.job}-1" for outcome in first]
    assert all(outcome.succeeded for outcome in again)


async def test_an_edit_whose_result_is_gone_from_the_daemon_is_made_again(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    gone = iter([True])

    def lose(message: m.Message) -> Any:
        if isinstance(message, m.Get) and next(gone, False):
            return [m.Failure.of(UnknownBlob("There is no such blob."), message.id)]
        return None

    daemon.before = lose
    outcomes = await all_of(client.map(folder, "night", out=str(tmp_path / "out/{stem}.png"), at_once=1))
    assert all(outcome.succeeded for outcome in outcomes)
    assert outcomes[0].job.endswith("-1") and len(daemon.jobs) == 6


async def test_a_daemon_that_stays_away_ends_the_run_and_the_next_one_does_the_rest(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out/{stem}.png")
    outcomes = client.map(folder, "night", out=out, at_once=1)
    assert [(await anext(outcomes)).succeeded for _ in range(2)] == [True, True]
    daemon.stop()
    with pytest.raises(DaemonUnreachable):
        while True:
            await anext(outcomes)
    daemon.start()
    async with AsyncClient(daemon.key) as other:
        again = await all_of(other.map(folder, "night", out=out))
    assert [outcome.skipped for outcome in again][:2] == [True, True]
    assert all(outcome.succeeded for outcome in again)


async def test_all_mistakes_of_a_folder_and_a_wrong_option_are_told_before_anything_is_sent(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidRequest, match="6 problems"):
        await all_of(client.map(folder, "night", out=str(tmp_path / "out/same.png")))
    with pytest.raises(UnknownOption, match="num_inference_steps"):
        await all_of(client.map([png(1)], "night", num_inference_steps=4))  # type: ignore[call-arg]
    with pytest.raises(InvalidRequest, match="at_once"):
        await all_of(client.map([png(1)], "night", at_once=65))
    assert not daemon.jobs


def test_the_synchronous_client_has_the_same(daemon: Any, folder: Path, tmp_path: Path) -> None:
    daemon.welcome = replace(daemon.welcome, version=2)
    with Client(daemon.key) as client:
        outcomes = client.map((folder / f"p{number}.png" for number in count()), "night", at_once=2)
        assert [outcome.name for outcome in islice(outcomes, 4)] == ["p0", "p1", "p2", "p3"]
        outcomes.close()  # type: ignore[attr-defined]
        saved = list(client.map(str(folder), "night", out=str(tmp_path / "out/{stem}.png")))
    assert [path.name for outcome in saved for path in outcome.paths] == [f"p{number}.png" for number in range(5)]

"""``client.map`` against the small daemon, whose result is the first picture."""

from __future__ import annotations

import errno
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client import AsyncClient, BatchOutcome, Client
from qied_client.errors import DaemonUnreachable, InvalidRequest, JobFailed, SetupError, UnknownBlob, UnknownOption
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


async def test_a_file_is_that_of_the_prompt_that_wrote_it_last(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out/{stem}.png")
    day = await all_of(client.map(folder, "day", out=out))
    await all_of(client.map(folder, "night", out=out))
    again = await all_of(client.map(folder, "day", out=out))
    assert [(outcome.skipped, outcome.job) for outcome in again] == [(False, outcome.job) for outcome in day]
    assert all(outcome.skipped for outcome in await all_of(client.map(folder, "day", out=out)))


async def test_a_canvas_that_has_changed_is_drawn_on_again(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    canvas, out = tmp_path / "c.png", str(tmp_path / "out/{stem}.png")
    options: dict[str, Any] = {"canvas": canvas, "redraw": {"box": (0, 0, 8, 8), "mask": str(folder / "{stem}.png")}}
    jobs = []
    for shade in (1, 2):
        canvas.write_bytes(png(shade))
        jobs += [outcome.job for outcome in await all_of(client.map([folder / "p1.png"], "night", out=out, **options))]
    assert len({*jobs}) == len(daemon.jobs) == 2 and not any(job.endswith("-1") for job in jobs)


async def test_a_result_that_cannot_be_saved_is_fetched_by_the_next_run_and_not_made_again(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "p2.png").mkdir(parents=True)  # a folder has the name of a result's
    first = await all_of(client.map(folder, "night", out=f"{out}/{{stem}}.png"))
    assert [outcome.succeeded for outcome in first] == [True, True, False, True, True]
    assert "name a file" in str(first[2].error)
    (out / "p2.png").rmdir()
    again = await all_of(client.map(folder, "night", out=f"{out}/{{stem}}.png"))
    assert again[2].job == first[2].job and again[2].succeeded and submitted(daemon)[again[2].job] == 2


async def test_a_full_disk_ends_the_run_before_others_are_made_for_nothing(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    out = str(tmp_path / "out/{stem}.png")
    with monkeypatch.context() as patch, pytest.raises(SetupError, match="No space left on device") as ended:
        patch.setattr("qied_client.batch.run.synced", full)
        await all_of(client.map(folder, "night", out=out, at_once=1))
    assert "repeat the command" in ended.value.remedy and len(daemon.jobs) == 1
    again = await all_of(client.map(folder, "night", out=out))
    assert all(outcome.succeeded and not outcome.skipped for outcome in again) and len(daemon.jobs) == 5


@pytest.mark.parametrize("seed", [-1, 2**63, "seven", True])
async def test_a_seed_that_is_none_is_refused_and_not_wrapped(client: AsyncClient, daemon: Any, seed: Any) -> None:
    (outcome,) = await all_of(client.map([{"picture": png(1), "seed": seed}], "night"))
    assert isinstance(outcome.error, InvalidRequest) and "seed" in str(outcome.error) and not daemon.jobs


async def test_contact_sheets_of_a_batch_are_no_pictures_of_the_next_one(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    await all_of(client.map(folder, "night", out=str(tmp_path / "out/{stem}.png")))
    (tmp_path / "out/contact-sheet-2.jpg").write_bytes(png(1))
    again = await all_of(client.map(tmp_path / "out", "day", out=str(tmp_path / "next/{stem}.jpg")))
    assert [outcome.name for outcome in again] == [f"p{number}" for number in range(5)]
    (tmp_path / "out/.qied-batch.db").unlink()
    with pytest.raises(InvalidRequest, match="is the name of the batch's contact sheet"):
        await all_of(client.map(tmp_path / "out", "day", out=str(tmp_path / "next/{stem}.jpg")))


async def test_a_name_that_no_file_can_have_is_told_before_anything_is_sent(
    client: AsyncClient, daemon: Any, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="too long for the name of a file"):
        await all_of(client.map(folder, "night", out=f"{tmp_path}/out/{'n' * 250}-{{stem}}.png"))


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

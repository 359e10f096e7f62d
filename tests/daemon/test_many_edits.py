"""More edits at once than the daemon has room for: all of them get their pictures."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from qied_client.errors import JobCancelled, RequestTimeout, UnknownJob

EDITS = 200
PICTURES = 60
SIZE = {"steps": 1, "width": 64, "height": 48}

PROGRAM = """
import asyncio, sys
from qied_client import AsyncClient

async def main():
    async with AsyncClient(sys.argv[1]) as client:
        edits = [client.edit(sys.argv[2], "x", seed=seed, steps=1, width=64, height=48) for seed in range(25)]
        print(len({result.job for result in await asyncio.gather(*edits)}))

asyncio.run(main())
"""


@pytest.fixture
def pictures(make_picture, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(PICTURES)]
    for number, path in enumerate(paths):
        path.write_bytes(make_picture(64, 48, (number, 9, 7)))
    return paths


@pytest.fixture
def narrow_daemon(start_daemon):
    """One with less room than its clients ask for, in every respect."""
    return start_daemon(
        QIED_LIMITS_JOBS_WAITING_PER_USER="20",
        QIED_LIMITS_UPLOADS_PER_USER="4",
        QIED_LIMITS_DOWNLOADS_PER_USER="2",
        QIED_LIMITS_REQUESTS_PER_USER="8",
    )


async def edit_all(client, pictures, count, on_progress=None):
    edits = [
        client.edit(pictures[number % len(pictures)], "x", seed=number, on_progress=on_progress, **SIZE)
        for number in range(count)
    ]
    return await asyncio.gather(*edits)


async def test_two_hundred_edits_of_one_client_end_in_as_many_pictures(daemon, pictures):
    async with daemon.async_client() as client:
        results = await edit_all(client, pictures, EDITS)
        assert [result.seed for result in results] == list(range(EDITS))
        assert len({result.job for result in results}) == EDITS
        again = await client.job(results[0].job)
        assert (await again.result()).bytes == results[0].bytes


async def test_none_is_lost_when_the_daemon_is_killed_twice(narrow_daemon, pictures):
    ended = 0

    def count(news):
        nonlocal ended
        ended += news.kind == "started"

    async with narrow_daemon.async_client() as client:
        editing = asyncio.ensure_future(edit_all(client, pictures, 60, count))
        for started in (1, 15):
            while ended < started:  # noqa: ASYNC110 - counted by the news
                await asyncio.sleep(0.01)
            narrow_daemon.kill()
            await asyncio.to_thread(narrow_daemon.start)
        results = await editing
    assert [result.seed for result in results] == list(range(60))


def test_threads_and_processes_of_one_user_share_what_there_is(narrow_daemon, pictures):
    command = [sys.executable, "-c", PROGRAM, str(narrow_daemon.key), str(pictures[0])]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    with narrow_daemon.client() as client, ThreadPoolExecutor(32) as pool:
        edits = pool.map(lambda number: client.edit(pictures[number % PICTURES], "x", seed=number, **SIZE), range(64))
        assert [result.seed for result in edits] == list(range(64))
    for program in programs:
        out, _ = program.communicate(timeout=120)
        assert out.strip() == "25"


async def test_a_late_edit_is_cancelled_in_the_daemon_and_several_results_come_together(
    shared_daemon, picture, tmp_path
):
    gate = tmp_path / "gate"
    async with shared_daemon.async_client() as client:
        with pytest.raises(RequestTimeout, match="Job late was cancelled"):
            await client.edit(picture, f"gate={gate}", job_id="late", timeout=1.0, **SIZE)
        gate.touch()
        with pytest.raises(JobCancelled):
            await (await client.job("late")).result()
        results = await client.edit(picture, "x", n=4, seed=5, job_id="four", **SIZE)
        assert [result.seed for result in results] == [5, 6, 7, 8]
        assert len({result.bytes for result in results}) == 4
        rows = await client.jobs(limit=5)
        assert {row.id for row in rows} == {"late", "four-1", "four-2", "four-3", "four-4"}
        job = await client.submit(picture, "x", job_id="four-2", seed=6, **SIZE)
        assert (await job.result()).bytes == results[1].bytes
        status = await job.status()
        assert (status.state, status.prompt, status.seed, status.finished) == ("succeeded", "x", 6, True)
        assert (await job.thumbnail())[:2] in (b"", b"\xff\xd8")
        await job.release()
        with pytest.raises(UnknownJob):
            await client.job("four-2")

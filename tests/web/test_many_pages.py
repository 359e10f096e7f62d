"""Many open pages beside edits that stream pictures: each page hears how all edits of its user stand, and no others."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

PAGES = 16
EDITS = 2
MOST_RSS = 200_000_000


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict]]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


class Page:
    """One open page: what it heard of each job."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.opened = asyncio.Event()
        self.knows_all = asyncio.Event()
        self.known: set[str] = set()
        self.steps: dict[str, set[int]] = defaultdict(set)
        self.kinds: dict[str, set[str]] = defaultdict(set)
        self.ended: set[str] = set()

    async def read(self, until: int) -> None:
        """Read until so many jobs have ended."""
        async with self._http.stream("GET", "/api/events") as response:
            async for name, told in events(response):
                if name == "status":
                    self.opened.set()
                else:
                    self.known.add(told["job"])
                if len(self.known) == until:
                    self.knows_all.set()
                if name == "job":
                    assert "preview" not in told, "pictures are fetched by who shows them"
                    self.kinds[told["job"]].add(told["kind"])
                    if told["kind"] == "step":
                        assert told["done"] > max(self.steps[told["job"]], default=0)
                        self.steps[told["job"]].add(told["done"])
                elif name == "outcome":
                    self.ended.add(told["job"])
                if len(self.ended) == until:
                    return


async def edit(http: httpx.AsyncClient, picture: bytes, gate: str) -> str:
    """One edit as a stream; returns its job."""
    data = {"prompt": f"gate={gate}", "size": "64x48", "steps": "6", "stream": "true", "partial_images": "2"}
    async with http.stream("POST", "/v1/images/edits", data=data, files={"image": picture}) as response:
        assert response.status_code == 200
        kinds = [(name, told) async for name, told in events(response)]
    *early, last = [name for name, _ in kinds]
    # A picture on the way may be passed over where the next one is there already.
    assert last == "image_edit.completed" and len(early) <= 2 and set(early) <= {"image_edit.partial_image"}
    return str(kinds[-1][1]["id"])


async def listening(gateway, tokens: list[str], picture: bytes, gate) -> tuple[list[list[Page]], list[set[str]]]:
    clients = [
        httpx.AsyncClient(
            base_url=gateway.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            limits=httpx.Limits(max_connections=None),
        )
        for token in tokens
    ]
    try:
        pages = [[Page(client) for _ in range(PAGES)] for client in clients]
        reading = [asyncio.create_task(page.read(EDITS)) for each in pages for page in each]
        for page in (page for each in pages for page in each):
            await page.opened.wait()
        editing = [[asyncio.create_task(edit(http, picture, str(gate))) for _ in range(EDITS)] for http in clients]
        for page in (page for each in pages for page in each):
            await page.knows_all.wait()
        gate.touch()
        jobs = [set(await asyncio.gather(*tasks)) for tasks in editing]
        await asyncio.gather(*reading)
        return pages, jobs
    finally:
        for client in clients:
            await client.aclose()


def test_every_page_hears_all_of_its_user_and_nothing_of_others(gateway, shared_daemon, picture, tmp_path):
    tokens = []
    for user in ("many-ann", "many-bob", "many-eve"):
        shared_daemon.enrol(user)
        tokens.append(gateway.tokens.add(user)[0])
    pages, jobs = asyncio.run(listening(gateway, tokens, picture, tmp_path / "gate"))
    assert len(set().union(*jobs)) == len(tokens) * EDITS
    for each, own in zip(pages, jobs, strict=True):
        assert {frozenset(page.ended) for page in each} == {frozenset(own)}
        assert all(page.known == own for page in each)
        # Steps that are faster than pages are told of them are passed over; the same ones for all that keep up.
        assert all(page.kinds[job] >= {"step", "preview"} for page in each for job in own)
        assert all(page.steps[job] for page in each for job in own)
    assert psutil.Process(gateway.process.pid).memory_info().rss < MOST_RSS


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal that holds a process")
def test_a_page_hears_signs_of_life_while_the_daemon_does_not_answer(gateway, token, shared_daemon):
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", f"{gateway.url}/api/events", headers=headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        shared_daemon.signal(signal.SIGSTOP)
        try:
            assert any(line.startswith(": ping") for line in lines)
        finally:
            shared_daemon.signal(signal.SIGCONT)
        assert any(line == "event: status" for line in lines)

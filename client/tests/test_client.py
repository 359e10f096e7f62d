"""The synchronous client, called from several threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from qied_client import Client
from qied_client.errors import CredentialsMissing, DaemonUnreachable, HandshakeRefused, UnknownJob
from qied_client.protocol import messages as m


@pytest.fixture
def client(daemon: Any) -> Iterator[Client]:
    with Client(daemon.key) as client:
        yield client


def test_several_threads_edit_at_once(client: Client, picture: bytes) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda seed: client.edit(picture, "x", seed=seed, timeout=30), range(24)))
    assert [result.seed for result in results] == list(range(24))
    assert all(result.bytes == picture for result in results)
    assert len({result.job for result in results}) == 24


def test_a_job_tells_its_progress_and_its_result(client: Client, picture: bytes) -> None:
    job = client.submit(picture, "x", job_id="mine")
    assert [news.kind for news in job.events()] == ["queued", "step", "preview"]
    assert job.outcome().state == "succeeded"
    assert job.result().bytes == picture
    assert job.cancel() == client.cancel("mine") == "finished"
    job.release()
    client.release("mine")
    assert client.job("mine").result(timeout=10).bytes == picture


def test_one_job_may_be_waited_for_by_several_threads(client: Client, picture: bytes) -> None:
    job = client.submit(picture, "x")
    with ThreadPoolExecutor(8) as pool:
        assert all(result.bytes == picture for result in pool.map(lambda _: job.result(timeout=30), range(16)))


def test_a_session_works_as_the_asyncio_one(client: Client, picture: bytes) -> None:
    session = client.session(picture)
    assert session.edit("Make it night.", timeout=30).turn == 1
    assert session.submit("Make it day.").turn == 2
    assert session.head == 2
    assert [turn.turn for turn in session.history()] == [1, 2]
    assert session.result(1).bytes == picture
    assert client.take_up_session(session.name).undo() == 1
    session.close()


def test_greeting_quote_and_status_are_there(client: Client, picture: bytes) -> None:
    assert client.welcome.model == "echo"
    assert client.quote(picture, "x").fits
    assert client.status().precision == "bf16"


def test_a_typed_error_reaches_the_calling_thread(client: Client) -> None:
    with pytest.raises(UnknownJob, match="You have no job 'none'"):
        client.job("none")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_client_that_cannot_connect_raises_and_leaves_no_thread(daemon: Any, tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing):
        Client(tmp_path / "absent.json")
    daemon.enrolled.clear()
    with pytest.raises(HandshakeRefused):
        Client(daemon.key)
    assert "qied client" not in threads()


def test_an_address_replaces_the_one_in_the_key_file(daemon: Any, free_address: str) -> None:
    with Client(daemon.key, address=daemon.address) as client:
        assert client.status().model == "echo"
    with pytest.raises(DaemonUnreachable, match=free_address):
        Client(daemon.key, address=free_address, patience=0.1)


def test_a_closed_client_refuses_work_and_can_be_closed_again(daemon: Any) -> None:
    with Client(daemon.key) as client:
        client.close()
        with pytest.raises(DaemonUnreachable, match="closed"):
            client.status()
    client.close()
    assert "qied client" not in threads()


def test_closing_frees_the_threads_that_wait(daemon: Any, picture: bytes) -> None:
    client = Client(daemon.key)
    daemon.before = lambda message: (
        [m.Resumed(message.id, message.job, "running")]
        if isinstance(message, m.Resume)
        else ([] if isinstance(message, m.Status) else None)
    )
    job = client.submit(picture, "x")
    with ThreadPoolExecutor(4) as pool:
        waiting: list[Future[Any]] = [
            pool.submit(client.status),
            pool.submit(job.result),
            pool.submit(lambda: list(job.events())),
            pool.submit(lambda: client.edit(picture, "y", on_progress=lambda news: None)),
        ]
        begun = {type(daemon.wait_for((m.Status, m.Submit))) for _ in range(3)}
        assert begun == {m.Status, m.Submit}
        client.close()
        for future in waiting:
            assert isinstance(future.exception(timeout=20), DaemonUnreachable)


@pytest.mark.parametrize("absent", ["PIL", "numpy", "typer", "rich", "torch"])
def test_the_client_needs_no_extra_to_be_imported(absent: str) -> None:
    script = f"import sys; sys.modules[{absent!r}] = None; import qied_client, qied_client.inputs"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_importing_the_client_brings_in_nothing_large() -> None:
    script = (
        "import sys, qied_client, qied_client.cli.main; "
        "print(*sorted({'torch', 'PIL', 'numpy', 'typer', 'rich', 'qied'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == ""

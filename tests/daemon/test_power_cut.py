"""What a client was told outlives a loss of power: the daemon's answers wait for the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from qied_client.credentials import read_credential
from qied_client.protocol import messages as m
from qied_client.transfers import hash_of

from qied.resources import builtin_model_folder
from tests.lost_power import Disk, watching

PICTURE = (builtin_model_folder().parent / "demo.png").read_bytes()


@dataclass(frozen=True)
class History:
    """State folders as the power would have left them, had it gone when the client heard the answer of that name."""

    stored: Path
    accepted: Path
    finished: Path
    named_early: list[Path]
    server_key: str
    upload: bytes
    job: str
    result: bytes


@pytest.fixture(scope="module")
def history(daemon_process, tmp_path_factory):
    """One edit by a daemon whose disk is slow, with what the disk holds at each answer."""
    folder = tmp_path_factory.mktemp("power").resolve()
    log, gate, states = folder / "calls", folder / "gate", folder / "states"
    daemon = daemon_process(folder / "root" / "home")
    daemon.watcher = watching(log)
    daemon.home.parent.mkdir()

    def lose_power(name: str) -> Path:
        return Disk.after(log, daemon.home.parent).leave(states / name) / "home"

    upload = PICTURE + b"another"
    daemon.start()
    try:
        with daemon.client() as client, daemon.raw() as raw:
            raw.hello().upload(upload)
            stored = lose_power("stored")
            job = client.submit(PICTURE, f"gate={gate}", seed=1, steps=2, width=64, height=48)
            accepted = lose_power("accepted")
            gate.touch()
            assert job.outcome().state == "succeeded"
            finished = lose_power("finished")
            result = job.result().bytes
        key = read_credential(daemon.key).server_key
        named_early = Disk.after(log, daemon.home.parent).named_early
        yield History(stored, accepted, finished, named_early, key, upload, job.id, result)
    finally:
        daemon.kill()


def test_a_picture_that_is_stored_need_not_be_sent_again(history, start_daemon):
    daemon = start_daemon(history.stored)
    with daemon.raw() as raw:
        answer = raw.hello().ask(lambda n: m.Put(n, hash_of(history.upload), len(history.upload)))
    assert isinstance(answer, m.Stored)


def test_a_job_that_is_accepted_is_done_when_the_power_is_back(history, start_daemon):
    daemon = start_daemon(history.accepted)
    with daemon.client() as client:
        assert client.job(history.job).result(timeout=60).bytes == history.result


def test_a_result_that_was_told_is_there_when_the_power_is_back(history, start_daemon):
    daemon = start_daemon(history.finished)
    with daemon.client() as client:
        assert client.job(history.job).result(timeout=60).bytes == history.result
    assert not [line for line in daemon.log if line.get("event") == "started"], "it is not computed again"


def test_clients_get_in_with_the_keys_that_they_have(history, start_daemon):
    assert read_credential(start_daemon(history.stored).key).server_key == history.server_key


def test_no_file_has_its_name_before_it_is_on_the_disk(history):
    assert history.named_early == []

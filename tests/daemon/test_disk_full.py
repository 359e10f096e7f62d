"""A full disk, or a full share of it, refuses what is new, keeps what was accepted, and ends once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest
from qied_client.transfers import hash_of

MIB = 1024 * 1024


def test_pictures_of_waiting_jobs_are_not_given_up_for_new_uploads(start_daemon, picture, tmp_path):
    limits = {
        "QIED_STORAGE_USER_SHARE": "1",
        "QIED_STORAGE_RESULT_SHARE": "0",
        "QIED_LIMITS_JOBS_RUNNING_PER_USER": "1",
    }
    daemon = start_daemon(QIED_STORAGE_BLOB_BYTES=str(64 * MIB), **limits)
    gate = tmp_path / "gate"
    with daemon.client() as client, daemon.raw(daemon.enrol("other")) as raw:
        running = client.submit(picture, f"gate={gate}", steps=2)
        waiting = client.submit(picture + bytes(33 * MIB), "a large one that waits", steps=2)
        refused = raw.hello().ask(lambda n: m.Put(n, "0" * 64, 40 * MIB))
        assert (refused.code, refused.details["limit"]) == ("disk_full", 64 * MIB)
        assert refused.details["available"] < 31 * MIB
        assert isinstance(raw.ask(lambda n: m.Put(n, "0" * 64, 30 * MIB)), m.Want)
        assert raw.ask(lambda n: m.Put(n, "1" * 64, 2 * MIB)).code == "disk_full"
        gate.touch()
        assert running.result().bytes
        assert waiting.result().bytes


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "qied-test", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0
    return filler


@pytest.fixture
def daemon(start_daemon, small_disk):
    """A daemon that keeps its state on the small disk and may fill it."""
    return start_daemon(small_disk / "home", QIED_STORAGE_FREE_RESERVE_BYTES="0")


def test_a_full_disk_under_the_journal_refuses_jobs_and_loses_none(daemon, picture, small_disk, tmp_path):
    gate = tmp_path / "gate"
    with daemon.client() as client, daemon.raw() as raw:
        wanted = EditRequest((raw.hello().upload(picture),), f"gate={gate}", seed=1, steps=2, width=64, height=48)
        filler = _fill(small_disk)
        answers = []
        while not answers or isinstance(answers[-1], m.Accepted):
            job = f"job-{len(answers)}"
            answers.append(raw.ask(lambda n, job=job: m.Submit(n, job, wanted, wanted.payload_hash())))
        assert answers.pop().code == "disk_full"
        assert raw.ask(lambda n: m.Put(n, hash_of(b"new"), 3)).code == "disk_full"
        status = client.status()
        assert status.waiting + status.running == len(answers)
        filler.unlink()
        last = raw.ask(lambda n: m.Submit(n, "last", wanted, wanted.payload_hash()))
        assert not last.known
        gate.touch()
        assert all(client.job(accepted.job).result(timeout=60).bytes for accepted in [*answers, last])
    assert daemon.stop() == 0


def test_a_cancellation_is_answered_once_it_could_be_journaled(daemon, picture, small_disk, tmp_path):
    with daemon.client() as client, ThreadPoolExecutor() as threads:
        job = client.submit(picture, f"gate={tmp_path / 'gate'}", steps=2)
        filler = _fill(small_disk)
        answer = threads.submit(job.cancel)
        daemon.wait_for("cannot journal, trying again")
        assert not answer.done()
        filler.unlink()
        assert answer.result() == "cancelled"
        assert job.outcome().state == "cancelled"

"""Pictures that were made to stop everybody: they harm only the job that they belong to."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image
from qied_client.errors import PictureTooCostly
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _resident_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def test_a_jpeg_of_too_many_scans_is_refused_when_it_is_submitted(daemon, many_scans):
    data = many_scans(16, 101)
    with daemon.client() as client, pytest.raises(PictureTooCostly, match="100 scans"):
        client.edit(data, "x", seed=1, steps=2)
    with daemon.raw() as raw:
        blob = raw.hello().upload(data)
        request = EditRequest((blob,), "x", 1)
        answer = raw.ask(lambda n: m.Submit(n, "job-1", request, request.payload_hash(), None, None))
        assert answer.code == "picture_too_costly"


def test_decoding_that_does_not_end_keeps_nobody_waiting_and_ends_with_its_job(
    daemon, picture, make_picture, many_scans, decoders_of
):
    with daemon.client() as anna, daemon.client(daemon.enrol("mallory")) as mallory:
        jobs = [mallory.submit(many_scans(7900, 100), "x", seed=1, steps=2, width=64, height=64)]
        while not (found := decoders_of(daemon.worker_pid)):
            pass
        os.kill(found[0], signal.SIGSTOP)
        jobs += [mallory.submit(make_picture(64, 48, (n, 2, 3)), "x", seed=n, steps=2) for n in range(2)]
        for seed in range(3):
            anna.edit(picture, "x", seed=seed, steps=2)
        assert found[0] in decoders_of(daemon.worker_pid)
        assert [job.cancel() for job in jobs] == ["cancelled"] * 3
        while found[0] in decoders_of(daemon.worker_pid):
            pass
        mallory.edit(picture, "x", seed=4, steps=2)
    assert not [line for line in daemon.log if line.get("level") in ("warning", "error")]


@pytest.mark.slow
def test_decoding_for_longer_than_the_worker_may_be_silent_succeeds(start_daemon, many_scans):
    daemon = start_daemon(QIED_WORKER_STEP_TIMEOUT_S="1")
    with daemon.client() as client:
        client.edit(many_scans(7900, 100), "x", seed=1, steps=2, width=64, height=64)
    assert not [line for line in daemon.log if line.get("level") in ("warning", "error")]


@pytest.mark.slow
def test_large_pictures_leave_the_workers_memory_as_it_is(daemon, make_picture):
    files = []
    for shade in range(3):
        target = io.BytesIO()
        Image.new("RGB", (8000, 7990), (shade, 1, 2)).save(target, "PNG", compress_level=1)
        files.append(target.getvalue())
    with daemon.client() as client:
        client.edit(make_picture(64, 48, (1, 2, 3)), "x", seed=1, steps=2)
        before = _resident_mib(daemon.worker_pid)
        jobs = [client.submit(files, "x", seed=n, steps=2, width=64, height=64) for n in range(2)]
        for job in jobs:
            job.result()
        assert _resident_mib(daemon.worker_pid) < before + 100

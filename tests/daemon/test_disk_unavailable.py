"""A disk that is read-only, or a daemon without free file descriptors, refuses what is new; accepted jobs wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qied_client.errors import DiskUnavailable
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest
from qied_client.transfers import hash_of

from tests.daemon.conftest import DaemonProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes a running process's limits"),
]


def hold_up(
    daemon: DaemonProcess, picture: bytes, gate: Path, block: Callable[[], object], free: Callable[[], object]
) -> None:
    """Block the disk while an edit runs, see what is refused, and that the edit succeeds once it is free."""
    with daemon.client() as client, daemon.raw() as raw, ThreadPoolExecutor() as threads:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=1, width=64, height=48)
        other = EditRequest((raw.hello().upload(picture),), "x", seed=2, steps=1, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        block()
        try:
            assert raw.ask(lambda n: m.Put(n, hash_of(b"new"), 3)).code == DiskUnavailable.code
            refused = raw.ask(lambda n: m.Submit(n, "other", other, other.payload_hash()))
            assert isinstance(refused, m.Accepted) or refused.code == DiskUnavailable.code
            gate.touch()
            result = threads.submit(job.result)
            daemon.wait_for("a job waits for the front's disk", job=job.id)
            assert not result.done()
        finally:
            free()
        assert result.result().bytes
        assert raw.upload(b"new") == hash_of(b"new")
    assert daemon.stop() == 0


def test_without_free_descriptors(daemon, picture, tmp_path):
    import resource

    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    hold_up(
        daemon,
        picture,
        tmp_path / "gate",
        lambda: resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, hard)),
        lambda: resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard)),
    )


def test_on_a_read_only_disk(daemon, picture, tmp_path):
    def mount(*arguments: str) -> int:
        return subprocess.run(["mount", *arguments, daemon.home], capture_output=True, check=False).returncode

    if mount("--bind", daemon.home) != 0:
        pytest.skip("a folder can only be mounted by root")

    def unmount() -> None:
        subprocess.run(["umount", "--lazy", daemon.home], check=True)

    hold_up(daemon, picture, tmp_path / "gate", lambda: mount("-o", "remount,bind,ro"), unmount)


def test_a_job_that_waits_for_the_disk_can_be_cancelled(start_daemon, picture, tmp_path):
    import resource

    daemon, gate = start_daemon(QIED_WORKER_MAX_ACTIVE="1"), tmp_path / "gate"
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with daemon.client() as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=1, width=64, height=48)
        other = client.submit(picture, "x", seed=2, steps=1, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, hard))
        gate.touch()
        daemon.wait_for("a job waits for the front's disk", job=job.id)
        assert job.cancel() == "cancelled"
        daemon.wait_for("started", job=other.id)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert other.result().bytes

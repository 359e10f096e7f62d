"""A picture that the disk has damaged ends the job that needs it with a reason, and an upload brings it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from qied_client.transfers import hash_of


def flipped(data: bytes) -> bytes:
    return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]


def cut(data: bytes) -> bytes:
    return data[:-20]


def stored(home: Path, data: bytes) -> Path:
    return home / "blobs" / hash_of(data)[:2] / hash_of(data)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [flipped, cut])
def test_a_waiting_job_says_to_upload_again_and_that_mends_it(
    start_daemon, make_picture, tmp_path, harm: Callable[[bytes], bytes]
):
    daemon, gate = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1"), tmp_path / "gate"
    first, second = make_picture(64, 48, (9, 9, 9)), make_picture(64, 48, (1, 2, 3))
    with daemon.client() as client:
        running = client.submit(first, f"gate={gate}", seed=1, steps=1)
        waiting = client.submit(second, "x", seed=1, steps=1)
        stored(daemon.home, second).write_bytes(harm(second))
        gate.touch()
        assert running.result().bytes
        outcome = waiting.outcome()
        assert (outcome.state, outcome.code) == ("failed", "blob_damaged")
        assert "Upload it again" in outcome.remedy
        assert client.edit(second, "x", seed=1, steps=1).bytes
    daemon.kill()
    stored(daemon.home, second).write_bytes(harm(second))
    daemon.start()
    with daemon.client() as client:
        assert client.edit(second, "x", seed=1, steps=1).bytes

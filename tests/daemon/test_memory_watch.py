"""Other programs take the card's memory and give it back, while the daemon runs."""

from __future__ import annotations

import threading

GIB = 1024**3


def free_bytes(client) -> int:
    return client.status().workers[0].free


def wait_until(condition) -> None:
    waiting = threading.Event()
    for _ in range(2000):
        if condition():
            return
        waiting.wait(0.02)
    raise AssertionError("it never came to be")


def test_jobs_wait_while_others_hold_the_memory_and_run_when_it_is_back(start_daemon, tmp_path, picture):
    memory = tmp_path / "memory"
    memory.write_text(f"{1 * GIB} {1000 * GIB}")
    daemon = start_daemon(QIED_TEST_MEMORY=str(memory), QIED_WORKER_BUDGET_BYTES=str(4 * GIB))
    with daemon.client() as client:
        assert client.edit(picture, "before", steps=1).bytes
        whole = free_bytes(client)
        memory.write_text("0 0")
        wait_until(lambda: free_bytes(client) == 0)
        job = client.submit(picture, "meanwhile", steps=1)
        assert client.status().waiting == 1
        memory.write_text(f"{1 * GIB} {1000 * GIB}")
        assert job.result(timeout=60).bytes
        assert free_bytes(client) == whole

"""A daemon that can no longer keep its promises stops and says so; the next start finds what was accepted."""

from __future__ import annotations

import contextlib
import sqlite3


def test_an_outcome_that_cannot_be_stored_ends_the_daemon_and_the_job_runs_at_the_next_start(
    start_daemon, picture, tmp_path
):
    daemon, gate = start_daemon(), tmp_path / "gate"
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=2, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        with contextlib.closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
            journal.execute("ALTER TABLE outcomes RENAME TO hidden")
        gate.touch()
        assert daemon.wait() == 1
        assert any(line.get("event") == "a part of the daemon failed, stopping" for line in daemon.log)
        with contextlib.closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
            journal.execute("ALTER TABLE hidden RENAME TO outcomes")
        daemon.start()
        assert job.outcome().state == "succeeded"

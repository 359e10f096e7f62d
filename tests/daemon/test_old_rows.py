"""A job that this version cannot read from the journal ends with a reason; the daemon starts, and others go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgpack


def test_jobs_that_cannot_be_read_fail_and_results_stay(start_daemon, picture, tmp_path):
    daemon, gate = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1"), tmp_path / "gate"
    with daemon.client() as client:
        kept = client.submit(picture, "kept", seed=1, steps=2, width=64, height=48)
        result = kept.result().bytes
        newer, garbage, good = (client.submit(picture, f"gate={gate}", seed=n, steps=2) for n in range(3))
    daemon.kill()
    with closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
        for job in (kept.id, newer.id):
            (stored,) = journal.execute("SELECT request FROM jobs WHERE job = ?", (job,)).fetchone()
            version, known = msgpack.unpackb(stored)
            fields = msgpack.packb([version, {**known, "next_year": 1}])
            journal.execute("UPDATE jobs SET request = ? WHERE job = ?", (fields, job))
        journal.execute("UPDATE jobs SET spec = ? WHERE job = ?", (b"\xc1garbage", garbage.id))
        journal.commit()
    daemon.start()
    with daemon.client() as client:
        outcomes = [client.job(job.id).outcome() for job in (newer, garbage)]
        assert [(outcome.state, outcome.code) for outcome in outcomes] == [("failed", "job_unreadable")] * 2
        assert "next_year" in outcomes[0].message and "damaged" in outcomes[1].message
        assert all("Submit the edit again" in outcome.remedy for outcome in outcomes)
        found = client.job(kept.id).result()
        assert (found.bytes, found.width, found.height) == (result, 64, 48)
        gate.touch()
        assert client.job(good.id).result(timeout=60).bytes

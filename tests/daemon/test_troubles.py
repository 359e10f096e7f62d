"""Why no edit can start reaches all who wait: in the log, in the status report and in a job's news."""

from __future__ import annotations

import json
import os
import signal
import threading

WHY = "CUDA unknown error: the driver lost its context over a suspend."


def test_a_worker_that_cannot_start_again_says_why_to_all_and_goes_on_once_it_can(start_daemon, picture, tmp_path):
    broken, gate = tmp_path / "broken", tmp_path / "gate"
    daemon = start_daemon(QIED_TEST_BROKEN=str(broken))
    with daemon.client(patience=60.0) as client:
        job = client.submit(picture, f"gate={gate}", seed=1, steps=1, width=64, height=48)
        daemon.wait_for("started", job=job.id)
        broken.write_text(WHY)
        os.kill(daemon.worker_pid, signal.SIGKILL)
        line = daemon.wait_for("a worker cannot work")
        assert (line["trouble"], line["remedy"]) == (WHY, "Mend it.")
        news = iter(job.events())
        assert next(event for event in news if event.kind == "queued" and event.note).note == WHY
        late = client.submit(picture, "calm", seed=1, steps=1, width=64, height=48)
        assert next(event for event in late.events() if event.kind == "queued").note == WHY
        daemon.wait_for("worker ended", how="exit 3")
        assert client.status().workers[0].trouble == f"{WHY} Mend it."
        broken.unlink()
        gate.touch()
        assert job.outcome().state == late.outcome().state == "succeeded"
        assert client.status().workers[0].trouble == ""
    assert not [line for line in daemon.log if line.get("event") == "the front is gone"]


def events(file) -> list[str]:
    return [json.loads(line)["event"] for line in file.read_text().splitlines()]


def test_the_daemons_own_log_has_what_is_not_shown(daemon_process, tmp_path):
    daemon = daemon_process(tmp_path / "home", QIED_DAEMON_LOG_LEVEL="error")
    daemon.start_unready()
    until = threading.Event()
    while not (daemon.home / "log" / "daemon.jsonl").is_file() or "ready" not in events(
        daemon.home / "log" / "daemon.jsonl"
    ):
        until.wait(0.02)
    daemon.stop()
    assert daemon.log == []
    folder = daemon.home / "log"
    assert {"ready", "worker ready", "stopped"} <= set(events(folder / "daemon.jsonl"))


def test_a_log_that_cannot_be_written_stops_no_daemon(daemon_process, tmp_path, picture):
    daemon = daemon_process(tmp_path / "home")
    daemon.home.mkdir(mode=0o700)
    (daemon.home / "log").write_text("in the way")
    daemon.start()
    try:
        with daemon.client() as client:
            assert client.edit(picture, "calm", seed=1, steps=1, width=64, height=48).bytes
        assert daemon.stop() == 0
    finally:
        if daemon.runs:
            daemon.kill()

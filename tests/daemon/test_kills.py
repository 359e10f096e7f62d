"""What was accepted ends in exactly one outcome, whoever is killed and whenever."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qied.resources import builtin_model_folder

CLIENTS, JOBS = 4, 10
ENGINE = "qied.engine.serving:load"
PICTURE = builtin_model_folder().parent / "demo.png"


class Crowd:
    """Client processes that can be killed and started again."""

    def __init__(self, key: Path, out: Path) -> None:
        self._key, self._out = key, out
        out.mkdir()
        self._processes = [self._start(number) for number in range(CLIENTS)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        script = Path(__file__).parent / "busy_client.py"
        return subprocess.Popen(
            [sys.executable, str(script), str(self._key), str(PICTURE), str(self._out), str(number), str(JOBS)]
        )

    def kill_and_restart(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()
        self._processes[number] = self._start(number)

    def wait(self) -> None:
        for process in self._processes:
            assert process.wait(timeout=300) == 0

    def results(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self._out.iterdir())}


def stored_outcomes(home: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(home / "journal.db")) as journal:
        return journal.execute("SELECT job, state FROM outcomes ORDER BY job").fetchall()


@pytest.mark.timeout(420)
def test_forty_jobs_survive_fifteen_kills_and_give_the_bytes_of_an_undisturbed_run(start_daemon, tmp_path):
    calm = start_daemon(tmp_path / "calm", engine=ENGINE)
    crowd = Crowd(calm.key, tmp_path / "calm-results")
    crowd.wait()
    undisturbed = crowd.results()
    calm.stop()
    assert len(undisturbed) == CLIENTS * JOBS

    daemon = start_daemon(tmp_path / "home", engine=ENGINE)
    crowd = Crowd(daemon.key, tmp_path / "results")
    chance = random.Random(20)
    kills = ["daemon"] * 5 + ["worker"] * 5 + ["client"] * 5
    chance.shuffle(kills)
    daemon.wait_for("finished")
    for victim in kills:
        moment(chance)
        if victim == "daemon":
            daemon.kill()
            daemon.start()
        elif victim == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon.worker_pid, signal.SIGKILL)
            daemon.wait_for("worker ready")
        else:
            crowd.kill_and_restart(chance.randrange(CLIENTS))
    crowd.wait()
    daemon.stop()

    outcomes = stored_outcomes(daemon.home)
    assert outcomes == [(name, "succeeded") for name in sorted(undisturbed)]
    assert crowd.results() == undisturbed
    deaths = [line for line in daemon.log if line.get("event") == "worker ended"]
    assert len(deaths) >= 5, "the worker was really killed"
    assert any(line.get("unfinished_jobs") for line in daemon.log), "the daemon was really killed with work to do"


def moment(chance: random.Random) -> None:
    """Let a random time pass, so that the next kill hits anywhere in the work."""
    threading.Event().wait(chance.uniform(0.0, 0.7))

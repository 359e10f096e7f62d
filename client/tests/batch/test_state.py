"""The state of a batch: durable, of one process at a time, and small in memory."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from qied_client.batch.report import write_report
from qied_client.batch.state import BatchState, Entry
from qied_client.errors import InvalidRequest, SetupError

DONE = Entry("done", 0, "job", "1:2", {"name": "a", "variation": 1, "row": 1})
_KILLED = """
import os, sys
from pathlib import Path
from qied_client.batch.state import BatchState, Entry
state = BatchState(Path(sys.argv[1]))
state.note("key", 1, Entry("done", 0, "job", "1:2", {"name": "a", "variation": 1, "row": 1}))
print(state.batch, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "state.db"


def test_what_is_noted_outlives_a_kill_and_the_lock_does_not(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, path], stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -9
    with BatchState(path) as state:
        assert state.batch == killed.stdout.strip()
        assert state.entry("key") == DONE
        assert state.entry("other") is None
        assert state.run == 2


def test_a_second_process_is_refused_while_the_first_one_runs(path: Path) -> None:
    with BatchState(path), pytest.raises(InvalidRequest, match="another batch writes to this folder"):
        BatchState(path)
    BatchState(path).close()


def test_a_file_that_is_not_a_state_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my own notes" * 1000)
    with pytest.raises(SetupError, match="is not a batch's state"):
        BatchState(path)
    assert path.read_bytes() == b"my own notes" * 1000


def test_a_state_of_a_newer_version_is_refused(path: Path) -> None:
    BatchState(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SetupError, match="newer version"):
        BatchState(path)


def test_a_report_has_the_edits_of_this_run_in_their_order(path: Path) -> None:
    with BatchState(path) as state:
        for number in (3, 1, 2):
            state.note(str(number), number, Entry("done", 0, "job", "", {"row": number}))
        state.note("failed", 4, Entry("failed", 1, "job", "", {"row": 4}))
        state.note("under way", 5, Entry("submitted", 0, "job", "", {}))
    with BatchState(path) as state:
        state.see("2", 1)
        state.note("4", 2, Entry("done", 0, "job", "", {"row": 40}))
        write_report(state, path.parent / "report.json", {"batch": state.batch, "made": 1})
    report = json.loads((path.parent / "report.json").read_text())
    assert [row["row"] for row in report["edits"]] == [2, 40]
    assert report["made"] == 1


def test_a_batch_has_begun_once_one_of_its_edits_is_noted_and_others_are_not_done(path: Path) -> None:
    with BatchState(path) as state:
        assert not state.unfinished("ab")
        state.note("a", 1, DONE)
        assert state.unfinished("ab")
        state.note("b", 2, DONE)
        assert not state.unfinished("ab")

"""What an end of the daemon says about the jobs that ran then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.server.journal.changes import AcceptJob, CountInterruption, StoredJob, StoreOutcome
from qied.server.machine_downs import counted

ACCEPTED = AcceptJob("ann", "one", 1, "", b"", b"", None, None, None, (), 0.0)
DONE = StoreOutcome("ann", "one", "succeeded", None, 0, None, 1, b"", None, None, None, 0.0)
RUNNING = StoredJob(ACCEPTED, 0, 0, None, boot="first", kills=4, downs=1)


def test_another_boot_means_that_the_machine_went_down_and_the_same_one_that_the_daemon_was_killed() -> None:
    assert counted(RUNNING, "second") == CountInterruption("ann", "one", 4, 2)
    assert counted(RUNNING, "first") == CountInterruption("ann", "one", 5, 1)


@pytest.mark.parametrize("job", [replace(RUNNING, boot=None), replace(RUNNING, outcome=DONE)])
def test_a_job_that_did_not_run_or_has_ended_counts_nothing(job: StoredJob) -> None:
    assert counted(job, "second") is None


@given(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"]), st.integers(0, 9), st.integers(0, 9))
def test_each_end_counts_once_and_a_boot_that_is_not_known_proves_nothing(
    then: str, now: str, kills: int, downs: int
) -> None:
    found = counted(replace(RUNNING, boot=then, kills=kills, downs=downs), now)
    assert found is not None
    assert found.kills + found.downs == kills + downs + 1
    assert found.kills >= kills and found.downs >= downs
    if not then or not now:
        assert found.downs == downs

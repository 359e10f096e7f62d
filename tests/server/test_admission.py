"""A user hands in no more jobs than the user's shares of time, of the store and of the journal allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from qied_client.errors import DiskFull, QuotaExceeded
from qied_client.protocol.request import EditRequest

from qied.config import Config
from qied.edit import EditSpec
from qied.scheduling.model import JobKey
from qied.server.admission import Admission, Shares
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.jobs import Job, JobBook, result_bytes
from qied.server.journal.changes import OutcomeState, OwnBlob, StoreOutcome

MIB = 1024 * 1024
CONFIG = Config.model_validate(
    {
        "limits": {"jobs_kept_per_user": 2, "submits_per_minute": 60},
        "storage": {"blob_bytes": 100 * MIB, "user_share": 0.5, "result_share": 0.25},
    }
)
SPEC = EditSpec(("a" * 64,), "x", None, 1, 20, 1.0, 1024, 1024)


class Front:
    """The parts of the front that an admission looks at."""

    def __init__(self, root: Path) -> None:
        self.jobs = JobBook(1)
        self.ownership = Ownership([])
        self.shares = Shares(CONFIG.storage, self.jobs, self.ownership)
        limit = CONFIG.storage.blob_bytes
        self.store = BlobStore(root, limit, 64 * MIB, 0, left_to_results=self.shares.left_to_results)
        self.admission = Admission(CONFIG.limits, self.shares, self.jobs, self.store)

    def check(self, user: str = "ann", now_ms: int = 0, spec: EditSpec = SPEC) -> JobKey | None:
        self.admission.check_room(user, spec)
        return self.admission.check(user, now_ms)

    def accept(self, name: str, user: str = "ann") -> Job:
        job = Job(JobKey(user, name), 1, "hash", EditRequest(("a" * 64,), "x", seed=1), SPEC)
        self.jobs.add(job)
        return job

    def end(self, job: Job, state: OutcomeState) -> None:
        outcome = StoreOutcome(
            job.key.user, job.key.job, state, None, 0, None, 1, b"", None, None, None, finished_at=1.0
        )
        self.jobs.conclude(job, outcome)


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return Front(tmp_path / "blobs")


async def test_the_oldest_job_without_a_result_gives_way_and_results_do_not(front: Front) -> None:
    front.end(front.accept("done"), "succeeded")
    assert front.check() is None
    for name in ("cancelled", "failed"):
        front.end(front.accept(name), "cancelled" if name == "cancelled" else "failed")
    assert front.check() == JobKey("ann", "cancelled")
    front.jobs.drop([JobKey("ann", "cancelled"), JobKey("ann", "failed")])
    front.end(front.accept("done too"), "succeeded")
    with pytest.raises(QuotaExceeded, match=r"limits\.jobs_kept_per_user") as refused:
        front.check()
    assert refused.value.remedy
    assert front.check("bob") is None
    front.jobs.drop([JobKey("ann", "done")])
    assert front.check() is None


async def test_what_was_fetched_gives_way_first_unless_a_turn_waits_for_it(front: Front) -> None:
    old, new = front.accept("old"), front.accept("new")
    for job, fetched_at in ((new, 9.0), (old, 8.0)):
        front.end(job, "succeeded")
        job.fetched_at = fetched_at
    front.end(front.accept("failed"), "failed")
    assert front.check() == old.key
    turn = front.accept("turn")
    turn.depends_on = "old"
    assert front.check() == new.key
    front.end(turn, "succeeded")
    assert front.check() == old.key
    front.jobs.drop([old.key, new.key])
    assert front.check() == JobKey("ann", "failed")


async def test_jobs_that_come_too_fast_wait(front: Front) -> None:
    for _ in range(60):
        front.check()
    with pytest.raises(QuotaExceeded, match=r"limits\.submits_per_minute"):
        front.check()
    front.check("bob")
    front.check(now_ms=1_000)
    with pytest.raises(QuotaExceeded):
        front.check(now_ms=1_000)


async def test_results_to_come_count_in_the_share_of_their_user_until_they_have_ended(front: Front) -> None:
    jobs = []
    with pytest.raises(QuotaExceeded, match=r"storage\.user_share") as refused:
        while True:
            front.check()
            jobs.append(front.accept(f"job-{len(jobs)}"))
    assert refused.value.details["passes"] is False
    assert len(jobs) == 50 * MIB // result_bytes(SPEC)
    assert front.shares.left_to_results() == len(jobs) * result_bytes(SPEC)
    front.check("bob")
    front.end(jobs[0], "cancelled")
    front.check()
    for job in jobs:
        front.end(job, "failed")
    assert (front.jobs.promised_bytes, front.shares.left_to_results()) == (0, 25 * MIB)
    front.ownership.own(OwnBlob("ann", "b" * 64, 49 * MIB, 1.0))
    with pytest.raises(QuotaExceeded):
        front.check()


async def test_no_job_is_accepted_whose_result_might_find_no_room(front: Front) -> None:
    uploads = [front.store.begin(f"{number}" * 64, 37 * MIB, f"user.{number}", 50 * MIB) for number in range(2)]
    with pytest.raises(DiskFull):
        front.store.begin("3" * 64, 2 * MIB, "user.3", 50 * MIB)
    for number in range(8):
        front.check(f"user-{number}")
        front.accept("job", f"user-{number}")
    with pytest.raises(DiskFull, match="result"):
        front.check("last")
    for number in range(8):
        front.store.begin(f"{number:064x}", result_bytes(SPEC), "worker.worker-0").suspend()
    uploads[0].suspend()
    front.check("last", spec=replace(SPEC, width=64))

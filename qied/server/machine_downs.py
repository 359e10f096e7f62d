"""Jobs that ran when the daemon ended without a stop in order: how often, and what that says about them. Pure.

A daemon that was killed, or ended with its worker alone, says little: somebody may kill it at any time. So its jobs go
on, only that one that was there each time starts after the others. A machine that went down says more, since a job can
do that (power supply, driver): the journal's mark of a running job has the boot that it ran in, and another boot now
means that the machine went down meanwhile. Such a job runs alone afterwards, and at the second time it is set aside.
"""

from __future__ import annotations

from qied.server.journal.changes import CountInterruption, StoredJob

MOST_DOWNS = 2
"""Times that the machine may go down while a job runs, until that job is not run again by itself."""
PATIENT_KILLS = 3
"""Times that the daemon may be killed while a job runs, until that job starts after all others, and alone."""


def counted(stored: StoredJob, boot: str) -> CountInterruption | None:
    """The new counts of a job that ran when the daemon ended, as seen in this ``boot``; None for all other jobs."""
    if stored.boot is None or stored.outcome is not None:
        return None
    down = bool(stored.boot and boot) and stored.boot != boot
    return CountInterruption(stored.accepted.user, stored.accepted.job, stored.kills + (not down), stored.downs + down)

"""The clock is not before the files that are there."""

from __future__ import annotations

import os
import time

from qied.doctor.findings import Status


def test_the_clock_of_today_is_fine(facts, ask):
    assert ask("clock.sane", facts()).status is Status.OK


def test_a_clock_before_the_installation_is_a_warning(facts, ask):
    found = ask("clock.sane", facts(now=0.0))
    assert (found.status, "1970-01-01" in found.message) == (Status.WARNING, True)


def test_a_clock_before_the_journal_is_a_warning(facts, ask):
    examined = facts()
    examined.home.mkdir()
    journal = examined.home / "journal.db"
    journal.touch()
    os.utime(journal, (time.time() + 10 * 86_400,) * 2)
    assert ask("clock.sane", examined).status is Status.WARNING


def test_a_state_folder_that_may_not_be_entered_says_nothing_of_the_clock(facts, ask, locked):
    with locked() as folder:
        assert ask("clock.sane", facts(home=folder / "state")).status is Status.OK

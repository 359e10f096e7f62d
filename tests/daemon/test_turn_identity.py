"""A job id names one turn: the same request on another base, or outside the session, is another job."""

from __future__ import annotations

import pytest
from qied_client.errors import JobConflict, RequestTimeout


def test_the_same_id_is_the_same_turn_and_never_another(daemon, picture):
    options = {"seed": 1, "steps": 2, "width": 64, "height": 48}
    with daemon.client() as client:
        session = client.session(picture)
        session.edit("one", **options)
        job = session.submit("two", job_id="turn", **options)
        assert session.submit("two", job_id="turn", **options).turn == job.turn == 2
        assert session.submit("two", job_id="turn", base=1, **options).turn == 2
        with pytest.raises(JobConflict):
            session.submit("two", job_id="turn", base=0, **options)
        with pytest.raises(JobConflict):
            client.session(picture).submit("two", job_id="turn", **options)
        assert len(session.history()) == 2


def test_a_timeout_covers_the_whole_edit_and_cancels_it(daemon, picture, tmp_path):
    with daemon.client() as client:
        with pytest.raises(RequestTimeout, match="was cancelled") as late:
            client.edit(picture, f"gate={tmp_path / 'gate'}", steps=2, width=64, height=48, timeout=0.5)
        assert client.job(late.value.details["job"]).outcome().state == "cancelled"

"""What a user has in the daemon: jobs, sessions and turns, page by page; others see none of it."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest

from qied.edit import EditSpec
from qied.server.journal.stored_edit import pack, pack_texts, unpack
from tests.daemon.test_fetched_results import ended, fetch, keep, made, submit

NAMES = (f"user{number}" for number in itertools.count())
LONG = "ä" * 4000
"""As many bytes as a prompt may have."""


@pytest.fixture
def raw(shared_daemon):
    """A connection of a user of this test alone."""
    with shared_daemon.raw(shared_daemon.enrol(next(NAMES))) as raw:
        yield raw.hello()


def turn(raw, job, session, prompt="x", seed=1, base=None):
    wanted = EditRequest((), prompt, seed=seed, steps=1, width=64, height=64)
    accepted = raw.ask(lambda n: m.Submit(n, job, wanted, wanted.payload_hash(), session, base))
    assert isinstance(accepted, m.Accepted), accepted
    return ended(raw, job)


def test_jobs_come_newest_first_in_pages(raw, picture, tmp_path):
    blob, gate = raw.upload(picture), tmp_path / "gate"
    count = 2 * limits.PAGE_JOBS + 1
    names = [f"job-{number}" for number in range(count)]
    for name in names:
        assert isinstance(submit(raw, name, blob, prompt=f"gate={gate}"), m.Accepted)
    found, numbers, before, more = [], [], None, True
    while more:
        page = raw.ask(lambda n, before=before: m.ListJobs(n, before))
        found += [info.job for info in page.jobs]
        numbers += [info.number for info in page.jobs]
        before, more = numbers[-1], page.more
    assert found == names[::-1]
    assert numbers == sorted(numbers, reverse=True)
    assert {info.state for info in page.jobs} <= {"waiting", "running"}
    for name in names:
        raw.ask(lambda n, name=name: m.Cancel(n, name))
    assert {info.code for info in raw.ask(m.ListJobs).jobs} == {"job_cancelled"}
    gate.touch()


def test_a_job_is_told_whole_and_its_prompt_is_short_in_the_list(raw, picture):
    result = made(raw, "one", raw.upload(picture), prompt=LONG, seed=7)
    (info,) = raw.ask(m.ListJobs).jobs
    assert (info.prompt, info.seed, info.steps, info.bytes) == ("ä" * 80, 7, 1, result.size)
    assert (info.state, info.width, info.height, info.fetched) == ("succeeded", 64, 64, False)
    assert 0 < info.accepted_ms <= info.finished_ms
    found = fetch(raw, "one")
    assert (found.info, found.prompt, found.blob, found.gone) == (info, LONG, result.blob, False)
    assert (found.media_type, found.schedule, found.true_cfg_scale) == ("image/png", "model", 1.0)
    keep(raw, "one")
    assert fetch(raw, "one").info.fetched


def test_a_failed_job_says_why(raw, picture):
    submit(raw, "bad", raw.upload(picture), prompt="fail")
    assert ended(raw, "bad").state == "failed"
    found = fetch(raw, "bad")
    assert (found.info.state, found.info.code, found.blob) == ("failed", "job_failed", None)
    assert (found.message, found.remedy) == ("The prompt said so.", "Say something else.")


def test_sessions_and_turns_are_listed_with_what_they_are_about(raw, picture):
    blob = raw.upload(picture)
    for name in ("b", "a"):
        raw.ask(lambda n, name=name: m.Open(n, name, blob))
    first, second = turn(raw, "t1", "a", "a red hat", 5), turn(raw, "t2", "a", "a blue one", 6)
    sessions = raw.ask(m.ListSessions)
    assert [(one.session, one.head, one.turns, one.prompt) for one in sessions.sessions] == [
        ("a", 2, 2, "a blue one"),
        ("b", 0, 0, ""),
    ]
    assert 0 < sessions.sessions[0].opened_ms <= sessions.sessions[0].used_ms
    assert [one.session for one in raw.ask(lambda n: m.ListSessions(n, "a")).sessions] == ["b"]
    raw.ask(lambda n: m.Release(n, "t2"))
    turns = raw.ask(lambda n: m.ListTurns(n, "a"))
    assert [(row.turn, row.base, row.state, row.prompt, row.seed) for row in turns.turns] == [
        (1, 0, "succeeded", "a red hat", 5),
        (2, 1, "released", "a blue one", 6),
    ]
    assert [row.blob for row in turns.turns] == [first.blob, second.blob]
    assert all(0 < row.accepted_ms <= row.finished_ms for row in turns.turns)
    assert [row.turn for row in raw.ask(lambda n: m.ListTurns(n, "a", 2)).turns] == [1]
    gone = fetch(raw, "t2")
    assert (gone.gone, gone.blob, gone.prompt, gone.info.state) == (True, second.blob, "a blue one", "succeeded")
    assert (gone.info.session, gone.info.turn, gone.info.seed) == ("a", 2, 6)
    raw.ask(lambda n: m.Close(n, "a"))
    assert fetch(raw, "t2").code == "unknown_job"


def test_sessions_and_turns_come_in_pages(raw, picture):
    blob = raw.upload(picture)
    names = [f"s{number:02}" for number in range(limits.PAGE_SESSIONS + 1)]
    for name in names:
        raw.ask(lambda n, name=name: m.Open(n, name, blob))
    first = raw.ask(m.ListSessions)
    rest = raw.ask(lambda n: m.ListSessions(n, first.sessions[-1].session))
    assert [one.session for one in (*first.sessions, *rest.sessions)] == names
    assert (first.more, rest.more) == (True, False)
    for number in range(limits.PAGE_TURNS + 1):
        turn(raw, f"turn-{number}", "s00", base=0)
    newest = raw.ask(lambda n: m.ListTurns(n, "s00"))
    oldest = raw.ask(lambda n: m.ListTurns(n, "s00", newest.turns[0].turn))
    assert [row.turn for row in (*oldest.turns, *newest.turns)] == list(range(1, limits.PAGE_TURNS + 2))
    assert (newest.more, oldest.more) == (True, False)


def test_others_see_nothing_of_it(shared_daemon, raw, picture):
    blob = raw.upload(picture)
    raw.ask(lambda n: m.Open(n, "mine", blob))
    turn(raw, "secret", "mine")
    with shared_daemon.raw(shared_daemon.enrol("curious")) as other:
        other.hello()
        assert other.ask(m.ListJobs).jobs == ()
        assert other.ask(m.ListSessions).sessions == ()
        assert fetch(other, "secret").code == "unknown_job"
        assert other.ask(lambda n: m.Release(n, "secret", keep=True)).code == "unknown_job"
        assert other.ask(lambda n: m.ListTurns(n, "mine")).code == "unknown_session"
        assert other.ask(lambda n: m.Redo(n, "mine", 1)).code == "unknown_session"
    raw.ask(lambda n: m.Release(n, "secret"))
    with shared_daemon.raw(shared_daemon.enrol("curious2")) as other:
        assert fetch(other.hello(), "secret").code == "unknown_job"


def test_redo_goes_forward_again_and_the_same_redo_asked_twice_redoes_once(raw, picture):
    blob = raw.upload(picture)
    raw.ask(lambda n: m.Open(n, "s", blob))
    for number in (1, 2):
        turn(raw, f"t{number}", "s")
    for number in (2, 1):
        raw.ask(lambda n, number=number: m.Undo(n, "s", number))
    assert [raw.ask(lambda n: m.Redo(n, "s", 1)).head for _ in range(2)] == [1, 1]
    assert raw.ask(lambda n: m.Redo(n, "s", 2)).head == 2
    assert raw.ask(lambda n: m.Redo(n, "s", 1)).code == "nothing_to_redo"
    assert raw.ask(lambda n: m.Redo(n, "s", 3)).code == "unknown_turn"
    raw.ask(lambda n: m.Undo(n, "s", 2))
    turn(raw, "bad", "s", "fail")
    raw.ask(lambda n: m.Undo(n, "s", 3))
    refused = raw.ask(lambda n: m.Redo(n, "s", 3))
    assert (refused.code, "failed" in refused.message) == ("nothing_to_redo", True)
    assert turn(raw, "t4", "s").state == "succeeded"
    assert [(row.turn, row.base) for row in raw.ask(lambda n: m.ListTurns(n, "s")).turns][-1] == (4, 1)


def test_what_is_served(raw):
    found = raw.ask(m.Describe)
    assert (found.model, found.precision, found.loras) == ("builtin", "fp32", 2)
    assert [preset.name for preset in found.presets if preset.default] == ["final"]
    loras = raw.ask(m.ListLoras).loras
    assert [(lora.name, lora.rank, lora.steps) for lora in loras] == [
        ("builtin-lightning-4steps", 16, 4),
        ("builtin-outline", 16, 0),
    ]
    assert all(lora.bytes > 1_000_000 for lora in loras)


def test_status_counts_pictures_and_not_failures(daemon, picture):
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        made(raw, "good", blob)
        submit(raw, "bad", blob, prompt="fail")
        ended(raw, "bad")
        assert raw.ask(m.Status).stored == 1


def test_warnings_settings_and_the_thumbnail_outlive_a_restart(daemon, picture):
    """As they are stored: what the spec says, and what came up while the job ran."""
    with daemon.raw() as raw:
        blob = raw.hello().upload(picture)
        made(raw, "one", blob)
    daemon.kill()
    with closing(sqlite3.connect(daemon.home / "journal.db")) as journal:
        (stored,) = journal.execute("SELECT spec FROM jobs").fetchone()
        spec = replace(unpack(EditSpec, stored), preset="draft", precision="fp32", warnings=("Few steps.",))
        journal.execute("UPDATE jobs SET spec = ?", (pack(spec),))
        journal.execute("UPDATE notes SET warnings = ?, thumbnail = ?", (pack_texts(["Clipped."]), b"jpeg"))
        journal.commit()
    daemon.start()
    with daemon.raw() as raw:
        assert submit(raw.hello(), "one", blob).warnings == ("Few steps.",)
        result = ended(raw, "one")
        assert result.warnings == ("Few steps.", "Clipped.")
        assert (result.preset, result.precision, result.steps, result.schedule) == ("draft", "fp32", 1, "model")
        assert fetch(raw, "one").thumbnail == b""
        found = raw.ask(lambda n: m.Fetch(n, "one", thumbnail=True))
        assert (bytes(found.thumbnail), found.warnings) == (b"jpeg", result.warnings)

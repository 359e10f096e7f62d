"""Sessions: turns on turns, undo, and what happens to them when a turn fails or the daemon dies."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image
from qied_client.errors import (
    DependencyFailed,
    JobFailed,
    NothingToRedo,
    NothingToUndo,
    QuotaExceeded,
    SessionConflict,
    UnknownSession,
    UnknownTurn,
)
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from typer.testing import CliRunner

from qied.cli.main import command_line


@pytest.fixture
def daemon(shared_daemon):
    return shared_daemon


@pytest.fixture
def client(daemon):
    with daemon.client() as client:
        yield client


@pytest.fixture
def session(client, picture):
    session = client.session(picture)
    yield session
    session.close()


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def _pairs(session):
    return [(turn.turn, turn.base, turn.state) for turn in session.history()]


def test_a_turn_edits_the_result_of_the_turn_before(client, session, picture):
    first = session.edit("x", seed=1, steps=2)
    second = session.edit("y", seed=2, steps=2)
    assert (first.turn, second.turn, session.head) == (1, 2, 2)
    assert first.bytes == client.edit(picture, "x", seed=1, steps=2).bytes
    assert second.bytes == client.edit(first.bytes, "y", seed=2, steps=2).bytes
    assert second.bytes != client.edit(picture, "y", seed=2, steps=2).bytes
    assert _pairs(session) == [(1, 0, "succeeded"), (2, 1, "succeeded")]


def test_undo_goes_back_one_turn_at_a_time_and_numbers_are_not_used_again(session):
    first = session.edit("x", seed=1, steps=2)
    session.edit("y", seed=2, steps=2)
    assert session.undo() == 1
    again = session.edit("y", seed=2, steps=2)
    assert again.turn == 3
    assert (session.undo(), session.undo()) == (1, 0)
    with pytest.raises(NothingToUndo):
        session.undo()
    assert session.edit("x", seed=1, steps=2).bytes == first.bytes
    assert _pairs(session) == [(1, 0, "succeeded"), (2, 1, "succeeded"), (3, 1, "succeeded"), (4, 0, "succeeded")]


def test_the_same_undo_asked_twice_undoes_once(daemon, client, session):
    for prompt in ("x", "y"):
        session.edit(prompt, steps=2)
    with daemon.raw() as raw:
        raw.hello()
        heads = [raw.ask(lambda n: m.Undo(n, session.name, 2)).head for _ in range(3)]
        assert heads == [1, 1, 1]
        assert raw.ask(lambda n: m.Undo(n, session.name, 9)).code == "unknown_turn"


def test_redo_goes_forward_again_as_often_as_undo_went_back(session):
    for prompt in ("x", "y", "z"):
        session.edit(prompt, steps=2)
    assert [session.undo() for _ in range(3)] == [2, 1, 0]
    assert [session.redo() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(NothingToRedo):
        session.redo()
    assert (session.undo(), session.edit("w", steps=2).turn, session.undo(), session.redo()) == (2, 4, 2, 4)


def test_the_same_redo_asked_twice_redoes_once(daemon, session):
    for prompt in ("x", "y"):
        session.edit(prompt, steps=2)
    session.undo()
    session.undo()
    with daemon.raw() as raw:
        raw.hello()
        heads = [raw.ask(lambda n: m.Redo(n, session.name, 1)).head for _ in range(3)]
        assert heads == [1, 1, 1]
        assert raw.ask(lambda n: m.Redo(n, session.name, 9)).code == "unknown_turn"


def test_a_turn_that_failed_is_left_and_not_redone(session):
    session.edit("x", steps=2)
    session.undo()
    with pytest.raises(JobFailed):
        session.edit("fail", steps=2)
    assert session.head == 0
    assert session.redo() == 1


def test_the_history_tells_what_was_asked_for_and_when(session):
    before = datetime.now(UTC) - timedelta(seconds=1)
    prompts = [f"turn {number}" for number in range(1, limits.PAGE_TURNS + 2)]
    results = [session.edit(prompt, steps=1) for prompt in prompts]
    history = session.history()
    assert [turn.prompt for turn in history] == prompts
    assert [(turn.seed, turn.job) for turn in history] == [(result.seed, result.job) for result in results]
    times = [time for turn in history for time in (turn.accepted_at, turn.finished_at)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= datetime.now(UTC) + timedelta(seconds=1)


def test_turn_0_is_the_first_picture_as_it_was_uploaded(client):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 40)).save(file, "JPEG")
    with client.session(file.getvalue()) as session:
        assert session.result().bytes == file.getvalue()
        session.edit("x", steps=2)
        first = session.result(0)
        assert (first.bytes, first.media_type) == (file.getvalue(), "image/jpeg")
        assert (first.width, first.height, first.turn) == (64, 48, 0)


def test_every_turn_has_a_thumbnail(session):
    session.edit("x", steps=2)
    for turn in (0, 1, None):
        small = Image.open(io.BytesIO(session.thumbnail(turn)))
        assert (small.format, max(small.size) <= 256) == ("JPEG", True)


def test_a_turn_may_edit_any_earlier_one(session):
    first, _ = session.edit("x", seed=1, steps=2), session.edit("y", seed=2, steps=2)
    assert session.edit("x", seed=1, steps=2, base=0).bytes == first.bytes
    branch = session.edit("z", seed=3, steps=2, base=1)
    assert [(turn.turn, turn.base) for turn in session.history()] == [(1, 0), (2, 1), (3, 0), (4, 1)]
    assert session.head == branch.turn == 4
    with pytest.raises(UnknownTurn):
        session.edit("z", steps=2, base=77)


def test_results_of_turns_can_be_fetched_again(session):
    results = [session.edit("x", seed=1, steps=2), session.edit("y", seed=2, steps=2)]
    assert session.result().bytes == results[1].bytes
    assert session.result(1).bytes == results[0].bytes
    with pytest.raises(UnknownTurn):
        session.result(3)


def test_a_turn_waits_for_the_turn_that_it_edits(client, session, gate):
    first = session.submit(f"gate={gate}", seed=1, steps=2)
    second = session.submit("y", seed=2, steps=2)
    third = session.submit("z", seed=3, steps=2)
    assert [turn.state for turn in session.history()] == ["running", "waiting", "waiting"]
    gate.touch()
    results = [job.result() for job in (first, second, third)]
    assert results[1].bytes == client.edit(results[0].bytes, "y", seed=2, steps=2).bytes
    assert results[2].bytes == client.edit(results[1].bytes, "z", seed=3, steps=2).bytes


def test_a_turn_that_fails_fails_all_that_wait_for_it(session, gate):
    first = session.submit(f"gate={gate} fail", steps=2)
    second, third = session.submit("y", steps=2), session.submit("z", steps=2)
    gate.touch()
    with pytest.raises(JobFailed):
        first.result()
    for job in (second, third):
        with pytest.raises(DependencyFailed):
            job.result()
    with pytest.raises(DependencyFailed):
        session.submit("late", steps=2)
    assert session.edit("from the first picture", steps=2, base=0).bytes


def test_a_cancelled_turn_fails_all_that_wait_for_it(session, gate):
    first = session.submit(f"gate={gate}", steps=2)
    second = session.submit("y", steps=2)
    first.cancel()
    gate.touch()
    with pytest.raises(DependencyFailed):
        second.result()


def test_a_released_turn_still_can_be_edited(client, session, gate):
    first = session.submit("x", seed=1, steps=2)
    picture = first.result().bytes
    first.release()
    (turn,) = session.history()
    assert (turn.state, turn.prompt, turn.seed) == ("released", "x", 1)
    second = session.edit("y", seed=2, steps=2)
    assert second.bytes == client.edit(picture, "y", seed=2, steps=2).bytes
    again = session.result(1)
    assert (again.bytes, again.media_type, again.seed, again.turn) == (picture, "image/png", 1, 1)
    assert session.thumbnail(1).startswith(b"\xff\xd8")


def test_opening_again_is_the_same_session_on_the_same_picture_only(client, session, picture, make_picture):
    session.edit("x", steps=2)
    again = client.session(picture, name=session.name)
    assert (again.name, again.head) == (session.name, 1)
    with pytest.raises(SessionConflict):
        client.session(make_picture(64, 48, (0, 0, 0)), name=session.name)


def test_a_closed_session_is_gone_and_closing_again_does_no_harm(client, picture):
    session = client.session(picture)
    job = session.submit("x", steps=2)
    result = job.result()
    session.close()
    session.close()
    with pytest.raises(UnknownSession):
        session.edit("y", steps=2)
    with pytest.raises(UnknownSession):
        client.take_up_session(session.name)
    assert client.job(job.id).result().bytes == result.bytes


def test_a_with_block_closes_its_session(client, picture):
    with client.session(picture, name="short") as session:
        assert [row.name for row in client.sessions()] == ["short"]
        session.edit("x", steps=2)
    assert client.sessions() == ()
    with pytest.raises(UnknownSession):
        client.take_up_session("short")


def test_one_s_sessions_are_listed_the_last_used_one_first(client, picture):
    names = ("c", "a", "b")
    sessions = {name: client.session(picture, name=name) for name in names}
    sessions["a"].edit("make it night", steps=2)
    listed = client.sessions()
    assert [row.name for row in listed] == ["a", "b", "c"]
    assert [(row.turns, row.head, row.prompt) for row in listed] == [(1, 1, "make it night"), (0, 0, ""), (0, 0, "")]
    assert all(row.opened_at <= row.used_at for row in listed)
    for session in sessions.values():
        session.close()


def test_waiting_turns_of_a_closed_session_still_run(client, picture, gate):
    session = client.session(picture)
    first, second = session.submit(f"gate={gate}", steps=2), session.submit("y", steps=2)
    session.close()
    gate.touch()
    assert first.result().bytes
    assert second.result().bytes


def test_a_session_of_another_user_does_not_exist(daemon, session, picture):
    with daemon.client(daemon.enrol("other")) as other:
        with pytest.raises(UnknownSession):
            other.take_up_session(session.name)
        assert other.sessions() == ()
        own = other.session(picture, name=session.name)
        assert own.history() == ()
        assert [row.turns for row in other.sessions()] == [0]
        assert session.name in {row.session for row in other.status().sessions}
        own.close()
    assert session.edit("x", steps=2).turn == 1


def test_a_turn_whose_picture_is_given_up_before_it_starts_fails_and_takes_nobody_along(
    start_daemon, picture, tmp_path
):
    daemon = start_daemon(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    gates = [tmp_path / "first", tmp_path / "between"]
    with daemon.client() as client:
        session = client.session(picture)
        first = session.submit(f"gate={gates[0]}", steps=2)
        between = client.submit(picture, f"gate={gates[1]}", steps=2)
        second = session.submit("y", steps=2)
        gates[0].touch()
        first.result()
        first.release()
        session.close()
        gates[1].touch()
        assert between.result().bytes
        with pytest.raises(DependencyFailed):
            second.result()
        assert client.edit(picture, "afterwards", steps=2).bytes


def test_more_sessions_than_a_user_may_have(start_daemon, picture):
    daemon = start_daemon(QIED_LIMITS_SESSIONS_PER_USER="2")
    with daemon.client() as client, daemon.raw() as raw:
        sessions = [client.session(picture) for _ in range(2)]
        with pytest.raises(QuotaExceeded):
            client.session(picture)
        assert client.session(picture, name=sessions[0].name).name == sessions[0].name
        sessions[0].close()
        raw.hello()
        source = raw.upload(picture)
        for number in range(1, 21):
            raw.send(m.Open(number, f"burst-{number}", source))
        opened = [answer for answer in (raw.receive() for _ in range(20)) if isinstance(answer, m.SessionState)]
        assert len(opened) == 1


@pytest.mark.parametrize("kill_first", [False, True])
def test_a_session_outlasts_the_client_and_a_sigkill_of_the_daemon(start_daemon, picture, tmp_path, kill_first):
    daemon = start_daemon()
    gate = tmp_path / "gate"
    with daemon.client() as client:
        session = client.session(picture, name="lasting")
        first = session.edit("x", seed=1, steps=2)
        session.edit("y", seed=2, steps=2)
        session.undo()
        running = session.submit(f"gate={gate}", seed=3, steps=2)
        waiting = session.submit("w", seed=4, steps=2)
        names = [running.id, waiting.id]
    if kill_first:
        daemon.kill()
        gate.touch()
        daemon.start()
    gate.touch()
    with daemon.client() as client:
        session = client.take_up_session("lasting")
        results = [client.job(name).result() for name in names]
        assert results[1].bytes == client.edit(results[0].bytes, "w", seed=4, steps=2).bytes
        history = session.history()
        assert [(turn.turn, turn.base) for turn in history] == [(1, 0), (2, 1), (3, 1), (4, 3)]
        assert [(turn.prompt, turn.seed) for turn in history] == [("x", 1), ("y", 2), (f"gate={gate}", 3), ("w", 4)]
        assert all(turn.accepted_at <= turn.finished_at for turn in history)
        assert [row.name for row in client.sessions()] == ["lasting"]
        assert session.result(0).bytes == picture
        assert [session.undo(), session.undo()] == [3, 1]
        assert session.result().bytes == first.bytes


def test_the_command_line_edits_in_turns(daemon, client, picture, tmp_path):
    first, out = tmp_path / "first.png", tmp_path / "out.png"
    first.write_bytes(picture)

    def run(*arguments):
        done = CliRunner().invoke(command_line(), ["session", *map(str, arguments), "--key", str(daemon.key)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert run("open", first, "--name", "poster") == "poster: at the first picture\n"
    for number, prompt in enumerate(("make it night", "add a moon"), 1):
        said = run("edit", "poster", prompt, "-o", out, "--steps", 2, "--seed", number)
        assert re.fullmatch(rf"{re.escape(str(out))}  \d+x\d+  turn {number}  .*  seed {number}  [\d.]+ s\n", said)
    session = client.take_up_session("poster")
    assert out.read_bytes() == session.result(2).bytes
    assert (run("undo", "poster"), run("redo", "poster")) == ("poster: at turn 1\n", "poster: at turn 2\n")
    lines = run("history", "poster").splitlines()
    assert [line.split()[:2] for line in lines] == [["turn", "base"], ["0", "(the"], ["1", "0"], [">", "2"]]
    run("result", "poster", 1, "-o", out)
    assert out.read_bytes() == session.result(1).bytes
    assert [row["name"] for row in json.loads(run("list", "--json"))] == ["poster"]
    assert run("close", "poster") == "poster: closed\n"
    assert client.sessions() == ()

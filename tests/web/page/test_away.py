"""Nothing is lost when the network, the daemon or the token goes away, and the page says what to do."""

from __future__ import annotations

import signal

from tests.daemon.conftest import DaemonProcess
from tests.web.page.visit import AWAY, PICTURE


def jobs(daemon: DaemonProcess, user: str) -> list:
    with daemon.client(daemon.home.parent / f"{user}.key.json") as client:
        return client.jobs()


def test_an_end_that_was_missed_is_caught_up_with(visit, shared_daemon, line, gate):
    user = visit(url=line.url, expected=AWAY)
    user.choose(PICTURE)
    user.edit(f"darker gate={gate}", steps=2)
    user.wait('.turn.running[data-turn="1"]')
    line.cut()
    user.reads("#away", "The server cannot be reached. Your edits go on, and this page comes back by itself.")
    gate.touch()
    with shared_daemon.client(shared_daemon.home.parent / f"{user.user}.key.json") as client:
        client.job(client.jobs()[0].id).result()
    line.mend()
    user.done(1)
    user.wait("#away", "hidden")
    user.wait("#run", "hidden")


def test_after_a_sleep_a_dead_line_is_noticed_and_replaced(visit, gateway, gate):
    user = visit(expected=AWAY)
    user.page.clock.install()
    user.page.reload()
    user.wait("#presets button")
    user.wait("#machine")
    gateway.process.send_signal(signal.SIGSTOP)  # the line stands and says nothing, as after a night
    try:
        user.page.clock.fast_forward("01:00")
        user.reads("#away", "The server cannot be reached.")
    finally:
        gateway.process.send_signal(signal.SIGCONT)
    user.page.evaluate("dispatchEvent(new Event('online'))")
    user.page.clock.run_for(10_000)
    user.wait("#away", "hidden")


def test_an_edit_that_was_not_sent_can_be_sent_again(visit, shared_daemon, line):
    user = visit(url=line.url, expected=AWAY)
    user.choose(PICTURE)
    user.until("() => document.querySelector('#more-line').innerText.includes('256')")
    line.cut()
    user.wait("#away")
    user.edit("darker", steps=1)
    user.reads("#toast-text", "The server could not be reached, so the edit was not sent.")
    line.mend()
    user.wait("#away", "hidden")
    user.page.fill("#prompt", "something else by now")
    assert jobs(shared_daemon, user.user) == []


def test_trying_again_sends_the_same_edit_once(visit, shared_daemon, line):
    user = visit(url=line.url, expected=(*AWAY, "ERR_FAILED"))
    user.choose(PICTURE)
    user.until("() => document.querySelector('#more-line').innerText.includes('256')")
    # The answer is lost, not the question.
    user.page.route("**/turns", lambda route: (route.fetch(), route.abort()))
    user.edit("darker", steps=1)
    user.wait("#toast-action")
    user.page.unroute("**/turns")
    user.page.fill("#prompt", "something else by now")
    user.page.click("#toast-action")
    user.done(1)
    assert [job.prompt for job in jobs(shared_daemon, user.user)] == ["darker"]


def test_a_token_that_was_removed_is_asked_for_and_all_is_as_before(visit, gateway):
    user = visit(expected=("401",))
    user.choose(PICTURE)
    user.page.fill("#prompt", "darker")
    user.reads("#more-line", "256")  # what it takes was asked for with the token
    gateway.tokens.remove(user.user)
    user.page.click("#edit")
    user.wait("#login")
    user.reads("#login-error", "This token is not valid, or was removed. Ask for a new one.")
    user.page.fill("#token", gateway.tokens.add(user.user)[0])
    user.page.keyboard.press("Enter")
    user.wait("#login", "hidden")
    assert user.page.input_value("#prompt") == "darker"
    user.page.click("#edit")
    user.done(1)


def test_a_session_that_is_gone_is_opened_again_from_the_picture(visit, shared_daemon):
    user = visit(expected=("404",))
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    with shared_daemon.client(shared_daemon.home.parent / f"{user.user}.key.json") as client:
        client.take_up_session(client.sessions()[0].name).close()
    user.edit("two", steps=1)
    user.reads('.turn[data-turn="1"][aria-current="true"]', "two")
    assert user.page.inner_text("#toast-text").startswith("This picture is no longer on the server")


def test_an_edit_that_fails_says_why(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("fail", steps=1)
    user.wait(".toast.bad")
    assert user.page.inner_text("#toast-text") not in ("", "failed")
    user.wait('.turn.failed[data-turn="1"]')


def test_the_daemon_goes_away_and_its_return_is_seen(own_door, open_at):
    daemon, gateway = own_door()
    user = open_at(gateway.url, gateway.tokens.add("local")[0], expected=("503", "504"))
    user.wait("#machine")
    daemon.signal(signal.SIGSTOP)
    user.reads("#away", "The model is not running at the moment. This page comes back by itself.")
    daemon.signal(signal.SIGCONT)
    user.wait("#away", "hidden")
    user.reads("#toast-text", "Connected again.")


def test_the_most_open_pictures_are_told_with_those_that_can_go(own_door, open_at):
    _, gateway = own_door(QIED_LIMITS_SESSIONS_PER_USER="1")
    user = open_at(gateway.url, gateway.tokens.add("local")[0], expected=("400",))
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.click("#fresh-start")
    user.choose(PICTURE)
    user.edit("two", steps=1)
    user.reads("#earlier-text", "Open pictures: 1, which is the most.")
    user.page.click(".card .quiet")
    user.page.click(".card .quiet")
    user.wait(".card", "detached")
    user.page.click("#earlier [data-close]")
    user.page.click("#edit")
    user.done(1)


def test_a_name_that_is_not_let_in_is_told(open_at, gateway):
    user = open_at(gateway.url, None, expected=("503", "403", "400"))
    user.page.fill("#token", gateway.tokens.add("stranger")[0])
    user.page.keyboard.press("Enter")
    user.reads("#login-error", "This token works, but its name is not let in")

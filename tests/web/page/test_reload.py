"""A reload loses nothing: neither what was chosen and painted, nor the edit that is on its way."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.daemon.conftest import DaemonProcess
from tests.web.page.visit import AWAY, PICTURE, Visit

KEPT = "() => import('/page/keeping.js').then(({ keep }) => keep())"
"""Waits until the browser has written down what there is."""


@pytest.fixture
def further(tmp_path: Path) -> list[Path]:
    """Two pictures of one colour each."""
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green")]
    for path in paths:
        Image.new("RGB", (64, 48), path.stem).save(path)
    return paths


def reload(user: Visit) -> None:
    user.page.evaluate(KEPT)
    user.page.reload()
    user.wait("#presets button")
    user.page.evaluate("import('/page/state.js').then(({ entered }) => entered)")


def sizes(user: Visit) -> list[list[int]]:
    return user.page.evaluate(
        "import('/page/state.js').then(({ state }) => state.pictures.map(({ width, height }) => [width, height]))"
    )


def prompts(daemon: DaemonProcess, user: Visit) -> list[str]:
    with daemon.client(daemon.home.parent / f"{user.user}.key.json") as client:
        return [job.prompt for job in client.jobs()]


def sessions(daemon: DaemonProcess, user: Visit) -> int:
    with daemon.client(daemon.home.parent / f"{user.user}.key.json") as client:
        return len(client.sessions())


def test_a_reload_in_the_middle_of_an_edit_loses_nothing(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit(f"darker gate={gate}", steps=3)
    user.wait('.turn[data-turn="1"]')  # it is accepted: until then it is on its way
    user.page.fill("#prompt", "what I thought of next")
    user.page.reload()
    user.wait("#run")
    assert user.page.input_value("#prompt") == "what I thought of next"
    user.page.click('.turn[data-turn="1"]')
    gate.touch()
    user.done(1)


def test_a_reload_stays_at_the_turn_that_was_shown(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.click("#tool-undo")
    user.done(0)
    user.page.reload()
    user.done(0)


def test_pictures_mask_and_settings_are_there_again(visit, further):
    user = visit()
    user.choose(PICTURE, *further)
    user.wait(".ref:nth-child(3)")
    user.page.click("#tool-mask")
    user.set("#brush-feather", 20)
    user.stroke((0.2, 0.3), (0.7, 0.6))
    painted = user.mask()
    assert painted is not None
    user.page.click("#brush-done")
    user.page.click('[data-preset="draft"]')
    user.page.click('[data-lora="builtin-outline"]')
    fields = {
        "#prompt": "as in picture 2",
        "#negative": "text",
        "#seed": "7",
        "#steps": "9",
        "#cfg": "2.5",
        "#count": "3",
    }
    for selector, value in fields.items():
        user.set(selector, value)
    user.page.click("#more summary")
    user.page.select_option("#compat", "comfyui")
    fields["#compat"] = "comfyui"
    user.page.select_option("#aspect", index=2)
    fields["#aspect"] = user.page.input_value("#aspect")
    reload(user)
    assert sizes(user) == [[256, 256], [64, 48], [64, 48]]
    assert {selector: user.page.input_value(selector) for selector in fields} == fields
    assert user.page.get_attribute('[data-preset="draft"]', "aria-checked") == "true"
    assert user.page.input_value(".pill input") == "1"
    again = user.mask()
    assert again is not None and (again == painted).all()


def test_a_state_with_results_keeps_further_pictures_and_masks(visit, further):
    user = visit()
    user.choose(PICTURE, *further)
    user.page.click("#tool-mask")
    user.stroke((0.4, 0.4), (0.6, 0.6))
    painted = user.mask()
    user.edit("darker", steps=1)
    user.done(1)
    reload(user)
    user.done(1)
    assert len(sizes(user)) == 3
    assert user.mask() is None, "it was painted on the picture before"
    user.page.click('.turn[data-turn="0"]')
    user.done(0)
    again = user.mask()
    assert again is not None and painted is not None and (again == painted).all()
    assert user.page.input_value("#prompt") == "darker"


def test_pictures_that_were_let_go_stay_away(visit, further):
    user = visit()
    user.choose(PICTURE, *further)
    user.wait(".ref:nth-child(3)")
    user.page.click(".ref:nth-child(2) .away")
    reload(user)
    assert len(sizes(user)) == 2
    for _ in range(2):
        user.page.click(".ref:nth-child(1) .away")
    reload(user)
    assert sizes(user) == []


@pytest.mark.parametrize("lost", ["the question", "the answer"])
@pytest.mark.parametrize("path", ["sessions", "turns"])
def test_an_edit_that_is_being_sent_is_sent_once(visit, shared_daemon, further, path, lost):
    user = visit(expected=(*AWAY, "ERR_FAILED"))
    user.choose(PICTURE, further[0])
    held = []
    user.page.route(f"**/{path}", lambda route: (lost == "the answer" and route.fetch(), held.append(route)))
    user.edit("darker", steps=1)
    user.reads("#run-step", "uploading")
    while not held:
        user.page.wait_for_timeout(10)
    user.page.fill("#prompt", "what I thought of next")
    user.page.unroute(f"**/{path}")
    user.page.reload()
    user.done(1)
    assert user.page.input_value("#prompt") == "what I thought of next"
    assert prompts(shared_daemon, user) == ["darker"]
    assert sessions(shared_daemon, user) == 1
    reload(user)
    user.done(1)
    assert prompts(shared_daemon, user) == ["darker"], "it is not kept any longer"


def test_an_edit_that_did_not_get_through_is_offered_again(visit, shared_daemon):
    user = visit(expected=(*AWAY, "ERR_FAILED"))
    user.choose(PICTURE)
    user.page.route("**/api/sessions", lambda route: route.abort())
    user.edit("darker", steps=1)
    user.wait("#toast-action")
    user.page.unroute("**/api/sessions")
    reload(user)
    user.reads("#toast-text", "The server could not be reached, so the edit was not sent.")
    assert prompts(shared_daemon, user) == []
    user.page.click("#toast-action")
    user.done(1)
    assert prompts(shared_daemon, user) == ["darker"]


def test_an_edit_that_is_offered_again_goes_to_its_own_picture(visit, shared_daemon, further):
    user = visit(expected=(*AWAY, "ERR_FAILED"))
    user.choose(PICTURE, further[0])
    user.edit("one", steps=1)
    user.done(1)
    user.page.route("**/turns", lambda route: route.abort())
    user.edit("two", steps=1)
    user.wait("#toast-action")
    user.page.unroute("**/turns")
    user.page.click("#fresh-start")
    user.choose(further[1])
    reload(user)
    assert sizes(user) == [[64, 48]]
    user.page.click("#toast-action")
    user.done(2)
    assert len(sizes(user)) == 2 and sessions(shared_daemon, user) == 1
    assert prompts(shared_daemon, user) == ["two", "one"]


def test_an_edit_that_is_no_longer_wanted_is_not_offered_again(visit, shared_daemon):
    user = visit(expected=(*AWAY, "ERR_FAILED"))
    user.choose(PICTURE)
    user.page.route("**/api/sessions", lambda route: route.abort())
    user.edit("darker", steps=1)
    user.wait("#toast-action")
    user.page.unroute("**/api/sessions")
    user.page.click("#toast-close")
    reload(user)
    user.wait("#canvas")
    assert not user.page.is_visible("#toast")
    assert prompts(shared_daemon, user) == []


def test_a_duplicated_tab_has_what_the_first_one_had_and_goes_its_own_way(visit, further):
    user = visit()
    user.choose(PICTURE, further[0])
    user.wait(".ref:nth-child(2)")
    user.page.evaluate(KEPT)
    with user.context.expect_page() as opening:
        user.page.evaluate("open(location.href)")  # begins with this tab's own store, as a duplicate does
    second = opening.value
    second.wait_for_selector(".ref:nth-child(2)")
    tab = "sessionStorage.getItem('qied.tab')"
    while second.evaluate(tab) == user.page.evaluate(tab):
        second.wait_for_timeout(10)
    second.click(".ref:nth-child(2) .away")
    second.evaluate(KEPT)
    reload(user)
    assert len(sizes(user)) == 2


def test_who_signs_out_leaves_nothing_behind(visit, gateway):
    user = visit()
    user.choose(PICTURE)
    user.page.fill("#prompt", "darker")
    user.page.evaluate(KEPT)
    user.page.click("#help")
    user.page.click("#sign-out")
    user.wait("#login")
    left = "import('/page/store.js').then(({ keysUnder }) => keysUnder([])).then((keys) => keys.length)"
    assert user.page.evaluate(left) == 0
    user.page.fill("#token", gateway.tokens.add(user.user)[0])
    user.page.keyboard.press("Enter")
    user.wait("#presets button")
    assert user.page.is_visible("#empty") and user.page.input_value("#prompt") == ""


def test_a_browser_without_a_database_works_as_before(visit):
    user = visit()
    user.context.add_init_script("indexedDB.open = () => { throw new Error('none'); }")
    user.page.reload()
    user.wait("#presets button")
    user.choose(PICTURE)
    user.edit("darker", steps=1)
    user.done(1)

"""The page on every screen, in both languages, by keyboard alone, and for those who do not see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from qied_client.web.app import PAGE

from tests.web.page.visit import LOOKS, PHONE, PICTURE, Visit


def faults(user: Visit) -> list[tuple[str, str]]:
    """What axe finds that is serious."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(user.page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], node["html"]) for each in serious for node in each["nodes"]]


def fits(user: Visit) -> bool:
    return bool(user.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("look", LOOKS)
def test_every_state_fits_and_is_accessible(visit, tmp_path, look, language):
    user = visit(**{**LOOKS[look], "locale": language})
    assert user.page.evaluate("document.documentElement.lang") == language
    assert fits(user) and faults(user) == []
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.evaluate("document.querySelector('#more').open = true; scrollTo(0, 0)")
    assert fits(user) and faults(user) == []
    user.page.click("#tool-mask")
    (tmp_path / "notes.txt").write_text("no picture")
    user.page.set_input_files("#file", str(tmp_path / "notes.txt"))
    user.wait(".toast.bad")
    assert fits(user) and faults(user) == []
    user.page.click("#tool-redraw")
    assert fits(user) and faults(user) == []
    user.page.click("#brush-done")
    for opener, dialog in (("#help", "#keys"), ("#machine", "#owner"), ("#earlier-open", "#earlier")):
        user.page.click(opener)
        user.wait(dialog)
        assert fits(user) and faults(user) == []
        user.page.keyboard.press("Escape")


def test_the_door_is_accessible_and_speaks_both_languages(open_at, gateway):
    user = open_at(gateway.url, None)
    user.wait("#login")
    assert faults(user) == [] and user.page.inner_text("#login-title") == "Welcome"
    user.page.click("#login [data-language]")
    assert user.page.inner_text("#login-title") == "欢迎"
    user.page.reload()
    user.reads("#login-title", "欢迎")


def test_what_a_finger_touches_is_large_enough(visit):
    user = visit(**PHONE)
    user.choose(PICTURE, PICTURE)
    user.page.click('[data-lora="builtin-outline"]')
    user.edit("one", steps=1)
    user.done(1)
    user.page.evaluate("document.querySelector('#more').open = true; scrollTo(0, 0)")
    user.page.click("#tool-mask")
    small = user.page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=range]), select, summary")]
            .map((each) => [each.id || each.className || each.innerText, each.getBoundingClientRect()])
            .filter(([, { width, height }]) => width && height && Math.min(width, height) < 43.5)
            .map(([name, { width, height }]) => `${name} ${width} x ${height}`)"""
    )
    assert small == []


def test_one_edit_by_keyboard_alone(open_at, gateway, shared_daemon):
    shared_daemon.enrol("keyboard")
    user = open_at(gateway.url, None)
    user.wait("#login")
    page = user.page
    page.on("filechooser", lambda _: None)  # the browser hands choosers over from now on, and not a moment after Enter
    page.keyboard.type(gateway.tokens.add("keyboard")[0])
    page.keyboard.press("Enter")
    user.wait("#presets button")
    reach(page, "choose")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(PICTURE))
    user.wait("#canvas")
    reach(page, "prompt")
    page.keyboard.type("darker")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"
    page.keyboard.press("Control+Enter")
    user.done(1)
    reach(page, "split")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('#handle').style.left") == "52%"
    page.keyboard.press("s")
    page.keyboard.press("ArrowDown")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert Path(download.value.suggested_filename).suffix == ".webp"
    page.keyboard.press("s")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "tool-save"


def reach(page: Any, name: str) -> None:
    """Press Tab until an element has the focus, which is then seen."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


def test_help_lists_the_keys(visit):
    user = visit()
    user.page.keyboard.press("?")
    user.wait("#keys")
    text = user.page.inner_text("#keys-list")
    assert all(key in text for key in ("Ctrl ⏎", "B", "[  ]", "Esc", "Ctrl Z", "?"))
    assert user.page.get_attribute("#tool-mask", "title") == "Paint what may change (B)"


def test_the_language_changes_all_that_is_said(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.click("header [data-language]")
    assert user.page.evaluate("document.documentElement.lang") == "zh-CN"
    user.until("() => document.querySelector('#presets small').innerText.includes('步')")
    said = user.page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility()).flatMap((each) => [
            ...[...each.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data),
            each.title, each.placeholder, each.getAttribute("aria-label")]).filter(Boolean)"""
    )
    names = set(re.findall(r"\w+", "qied one PNG WebP JPEG English FP Ctrl builtin outline tokens add NAME MB GB"))
    title = user.page.inner_text("#model-name")
    words = {word for text in said if text not in (title, user.user) for word in re.findall(r"[A-Za-z]{2,}", text)}
    assert words - names == set()


def test_both_languages_have_all_phrases_and_no_others(visit):
    phrases = visit().page.evaluate("import('/page/phrases.js').then(({ PHRASES }) => PHRASES)")
    places = re.compile(r"\{\w+\}")
    assert phrases["en"].keys() == phrases["zh"].keys()
    for key, text in phrases["en"].items():
        assert sorted(places.findall(text)) == sorted(places.findall(phrases["zh"][key])), key
    others = [path for path in PAGE.iterdir() if path.suffix in (".js", ".html") and path.name != "phrases.js"]
    sources = "".join(path.read_text(encoding="utf-8") for path in others)
    used = set(re.findall(r"""(?:say|wrong|away)\("(\w+)"|data-(?:words|title|label|hint)="(\w+)\"""", sources))
    assert {one or other for one, other in used} - phrases["en"].keys() == set()
    states = set(
        re.findall(r"\w+", "cancelled poisoned released succeeded starting draining lost unloaded waiting")
    )  # of the server
    assert {key for key in phrases["en"] if not re.search(rf"\b{key}\b", sources)} <= states


def test_motion_stops_where_it_is_not_wanted(visit, gate):
    user = visit(reduced_motion="reduce")
    user.choose(PICTURE)
    user.edit(f"one gate={gate}", steps=1)
    user.wait(".turn.running")
    assert user.page.evaluate("document.getAnimations().length") == 0
    gate.touch()
    user.done(1)

"""Edits at the page: as they form, in the queue, stopped, side by side, and the history that they make."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata

from tests.web.page.visit import PHONE, PICTURE, TIMES, pixels


def test_a_first_visit_ends_with_a_saved_picture(open_at, gateway, shared_daemon):
    shared_daemon.enrol("newcomer")
    user = open_at(gateway.url, None, expected=("401",))  # Chromium's own line about the wrong token
    user.wait("#login")
    for token in ("qied-wrong", gateway.tokens.add("newcomer")[0]):
        user.page.fill("#token", token)
        user.page.keyboard.press("Enter")
        user.wait("#login-error" if token == "qied-wrong" else "#presets button")
    user.choose(PICTURE)
    user.page.fill("#prompt", "make it darker")
    user.page.keyboard.press("Control+Enter")
    user.done(1)
    assert [Image.open(BytesIO(user.saved(kind))).format for kind in ("png", "webp", "jpeg")] == ["PNG", "WEBP", "JPEG"]


def test_a_link_brings_the_token_and_the_address_forgets_it(visit):
    assert "token" not in visit().page.url


def test_an_edit_with_the_builtin_model_forms_and_compares(own_door, open_at):
    _, gateway = own_door(engine="qied.engine.serving:load")
    user = open_at(gateway.url, gateway.tokens.add("local")[0])
    user.choose(PICTURE)
    user.page.click("#tool-mask")
    user.stroke((0.4, 0.5), (0.6, 0.5))
    user.edit("make the red heart blue", steps=8)
    user.wait("#forming")
    assert not user.page.is_visible("#paint"), "the mask is not over what forms"
    user.done(1)
    before, after = pixels(PICTURE.read_bytes()), pixels(user.saved("png"))
    assert after[128, 128][2] > 180 > after[128, 128][0], "the heart turned blue"
    assert (before[:40] == after[:40]).all() and (before[:, :30] == after[:, :30]).all(), "outside of the mask"


def test_progress_time_left_and_title_follow_the_edit(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit(f"darker gate={gate}", steps=9)
    user.wait("#run")
    assert user.page.inner_text("#run-title") == f"darker gate={gate}"
    gate.touch()
    user.done(1)
    user.wait("#run", "hidden")
    assert user.page.title() == "qied"


def test_steps_and_time_left_are_in_the_title_as_well(visit):
    user = visit()
    user.choose(PICTURE)
    titles = """() => { window.titles = []; new MutationObserver(() => window.titles.push(document.title))
        .observe(document.querySelector("title"), { childList: true }); }"""
    user.page.evaluate(titles)
    user.edit("darker", steps=120)
    user.done(1)
    seen = user.page.evaluate("window.titles")
    assert any(" s left · " in title and title.endswith("darker") for title in seen), seen


def test_an_end_in_another_tab_is_told_in_the_title(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit(f"darker gate={gate}", steps=1)
    user.wait("#run")
    user.page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    gate.touch()
    user.until("() => document.title.startsWith('✓ darker')")
    user.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    user.until("() => document.title === 'qied'")


def test_undo_goes_back_and_the_next_edit_branches(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.locator("#prompt").blur()
    user.page.keyboard.press("Control+z")
    user.done(0)
    user.edit("two", steps=1)
    user.done(2)
    user.edit("three", steps=1)
    user.done(3)
    user.page.click('.turn[data-turn="1"]')
    user.done(1)
    user.edit("four", steps=1)
    user.done(4)
    assert user.page.locator(".branch i").all_inner_texts() == ["→", "⤳", "→", "⤳"]
    assert user.page.locator(".branch small").all_inner_texts() == ["from the original", "from 1"]


def test_the_history_is_walked_through_by_arrow_keys(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.focus('.turn[data-turn="1"]')
    user.page.keyboard.press("ArrowLeft")
    user.done(0)
    assert user.page.evaluate("document.activeElement.dataset.turn") == "0"


def test_cancel_stops_what_is_shown_and_nothing_else(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit(f"first gate={gate}", steps=1)
    user.wait('.turn.running[data-turn="1"]')
    user.edit(f"second gate={gate}", steps=1)
    user.wait('.turn.running[data-turn="2"]')
    user.reads("#run-step", "1 more waiting")
    user.page.click("#run-cancel")
    user.wait('.turn.failed[data-turn="1"]')
    gate.touch()
    user.wait('.turn[data-turn="2"] .fresh')
    assert user.page.get_attribute('.turn[data-turn="0"]', "aria-current") == "true", "what is looked at stays"
    user.page.click('.turn[data-turn="2"]')
    user.done(2)
    assert user.page.locator(".fresh").count() == 0


def test_who_waits_is_told_the_place_in_the_queue(own_door, open_at, gate):
    _, gateway = own_door(QIED_LIMITS_JOBS_RUNNING_PER_USER="1")
    user = open_at(gateway.url, gateway.tokens.add("local")[0])
    user.choose(PICTURE)
    for turn in (1, 2):
        user.edit(f"{turn} gate={gate}", steps=2)
        user.wait(f'.turn.running[data-turn="{turn}"]')
    user.page.click('.turn[data-turn="2"]')
    user.reads("#run-step", "place 1 in the queue")
    user.until("() => document.title.includes('place 1') || document.title.startsWith('starts in')")
    gate.touch()
    user.done(2)


def test_a_picture_that_is_looked_at_stays_when_an_edit_ends(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.edit(f"two gate={gate}", steps=1)
    user.wait('.turn.running[data-turn="2"]')
    user.page.click('.turn[data-turn="0"]')
    user.done(0)
    gate.touch()
    user.wait('.turn[data-turn="2"] .fresh')
    assert user.page.get_attribute('.turn[data-turn="0"]', "aria-current") == "true"


def test_two_people_at_once_see_their_own(visit, gate):
    one, other = visit("ida"), visit("ada")
    for user in (one, other):
        user.choose(PICTURE)
        user.edit(f"{user.user} gate={gate}", steps=2)
        user.wait(".turn.running")
    gate.touch()
    for user in (one, other):
        user.done(1)
        assert user.page.locator(".turn").count() == 2
        assert user.page.get_attribute('.turn[data-turn="1"]', "title").startswith(f"1: {user.user}")


def test_four_variations_are_four_turns_with_seeds_that_follow_each_other(visit):
    user = visit()
    user.choose(PICTURE)
    user.set("#seed", 70)
    user.page.select_option("#count", "4")
    user.edit("darker", steps=1)
    user.done(1)
    tags = []
    for turn in range(1, 5):
        user.page.click(f'.turn[data-turn="{turn}"]')
        user.done(turn)
        tags.append(user.page.inner_text("#tag-after"))
    assert [tag.rsplit(" ", 1)[1] for tag in tags] == ["70", "71", "72", "73"]


def test_the_lock_keeps_the_seed_of_the_picture_and_lets_it_go(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("darker", steps=1)
    user.done(1)
    first = user.page.inner_text("#tag-after").rsplit(" ", 1)[1]
    user.page.click("#more summary")
    user.page.click("#seed-lock")
    assert user.page.input_value("#seed") == first
    assert f"seed {first}, kept" in user.page.inner_text("#more-line")
    user.edit("darker", steps=1)
    user.done(2)
    assert user.page.inner_text("#tag-after").endswith(f"seed {first}")
    user.page.click("#seed-lock")
    assert user.page.input_value("#seed") == "" and "random seed" in user.page.inner_text("#more-line")


def test_styles_steps_guidance_and_size_reach_the_picture(visit):
    user = visit()
    user.choose(PICTURE)
    user.page.click('[data-lora="builtin-outline"]')
    user.page.fill(".pill input", "0.5")
    user.page.click("#more summary")
    user.page.fill("#cfg", "2.5")
    user.page.fill("#negative", "text")
    user.page.select_option("#aspect", index=2)
    width, height = user.page.input_value("#aspect").split("x")
    user.reads("#more-line", f"{width} {TIMES} {height} pixels")
    user.edit("darker", steps=2)
    user.done(1)
    made = read_metadata(user.saved("png"))
    assert made is not None
    assert (made.loras, made.steps, made.true_cfg_scale) == ((("builtin-outline", 0.5),), 2, 2.5)
    assert (made.negative_prompt, made.width, made.height) == ("text", int(width), int(height))


def test_a_result_is_as_picture_1_though_the_last_one_is_wider(visit, tmp_path):
    Image.new("RGB", (640, 360), "red").save(tmp_path / "wide.png")
    user = visit()
    user.choose(PICTURE, tmp_path / "wide.png")
    user.reads("#more-line", f"256 {TIMES} 256 pixels")
    user.edit("darker", steps=1)
    user.done(1)
    assert Image.open(BytesIO(user.saved("png"))).size == (256, 256)


def test_presets_say_in_plain_words_what_they_take(visit):
    user = visit()
    assert user.page.locator("#presets b").all_inner_texts() == ["Fast", "Balanced", "Best"]
    user.choose(PICTURE)
    user.until(
        "() => [...document.querySelectorAll('#presets small')].every((each) => /s · .* s$/.test(each.innerText))"
    )
    user.reads("#more-line", f"256 {TIMES} 256 pixels")


@pytest.mark.parametrize("by", ["mouse", "touch", "keyboard"])
def test_the_slider_between_before_and_after(visit, by):
    user = visit(**(PHONE if by == "touch" else {}))
    user.choose(PICTURE)
    user.edit("darker", steps=1)
    user.done(1)
    user.page.evaluate("scrollTo(0, 0)")
    box = user.page.locator("#canvas").bounding_box()
    place = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    if by == "mouse":
        user.page.mouse.click(*place)
    elif by == "touch":
        user.page.touchscreen.tap(*place)
    else:
        user.page.focus("#split")
        for key in ("PageDown", "PageDown", "ArrowLeft", "ArrowDown"):
            user.page.keyboard.press(key)
    share = {"keyboard": 26}.get(by, 25)
    left = user.page.evaluate("parseFloat(document.querySelector('#handle').style.left)")
    assert abs(left - share) < 1
    assert user.page.evaluate("document.querySelector('#after').style.clipPath").startswith("inset(0px 0px 0px 2")
    assert user.page.get_attribute("#split", "aria-valuetext") == f"{round(left)} % before"
    user.page.click("#tool-compare")
    assert not user.page.is_visible("#split")


def test_a_result_goes_on_as_a_further_picture(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    user.page.fill("#prompt", "both of them")
    user.page.click("#tool-next")
    user.wait(".ref:nth-child(2)")
    assert user.page.input_value("#prompt") == "both of them", "its settings do not come with it"
    assert not user.page.is_visible("#toast"), "nor are they offered"
    user.edit("both", steps=1)
    user.done(2)
    made = read_metadata(user.saved("png"))
    assert made is not None and len(made.sources) == 2


def test_earlier_pictures_are_opened_again_and_deleted(visit):
    user = visit()
    for prompt in ("one", "two"):
        user.choose(PICTURE)
        user.edit(prompt, steps=1)
        user.done(1)
        user.page.click("#fresh-start")
        user.wait("#empty")
    user.page.click("#earlier-empty")
    user.wait(".card")
    assert user.page.locator(".card b").all_inner_texts() == ["two", "one"]
    user.page.click(".card:nth-child(2) .open")
    user.done(1)
    assert "one" in user.page.inner_text('.turn[data-turn="1"]')
    user.page.click("#earlier-open")
    user.wait(".card.current")
    user.page.click(".card:not(.current) .quiet")
    user.reads(".card:not(.current) .quiet", "Really delete?")
    user.page.click(".card:not(.current) .quiet")
    user.wait(".card:not(.current)", "detached")
    assert user.page.locator(".card").count() == 1


def test_a_second_tab_shows_what_the_first_one_begins(visit, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    second = user.context.new_page()
    second.goto(user.page.url)
    second.wait_for_selector('.turn[data-turn="1"][aria-current="true"]')
    user.edit(f"two gate={gate}", steps=2)
    second.wait_for_selector('.turn.running[data-turn="2"]')
    gate.touch()
    second.wait_for_selector('.turn[data-turn="2"] .fresh')

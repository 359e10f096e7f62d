"""Drawing a part of a result again: what is painted or framed, how strongly, and the picture before and after."""

from __future__ import annotations

import numpy as np
from qied_client.picture_metadata import read_metadata

from tests.web.page.visit import PHONE, PICTURE, pixels


def with_a_result(visit, prompt="darker", **options):
    user = visit(**options)
    user.choose(PICTURE)
    user.edit(prompt, steps=2)
    user.done(1)
    user.page.evaluate("scrollTo(0, 0)")
    return user


def framed(user):
    """Frame a box with the tool for that."""
    user.page.click("#brush-box")
    user.stroke((0.25, 0.25), (0.6, 0.5), (0.75, 0.5))


def test_a_framed_part_is_drawn_again_and_compared_with_the_picture_before(visit):
    user = with_a_result(visit)
    before = pixels(user.saved("png"))
    user.page.click("#tool-redraw")
    assert user.page.inner_text("#edit-word") == "Redraw"
    framed(user)
    mask = user.mask() > 127
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    left, top, width, height = columns[0], rows[0], len(columns), len(rows)
    assert mask[top : top + height, left : left + width].all(), "one box, not the way of the mouse"
    assert abs(left - 64) <= 1 and abs(width - 128) <= 2 and abs(height - 64) <= 2
    assert user.page.inner_text("#brush-feather-now") == "auto"
    user.set("#brush-strength", 80)
    assert user.page.inner_text("#brush-strength-now") == "80 %"
    user.edit("a face", steps=5)
    user.done(2)
    made = user.saved("png")
    metadata = read_metadata(made)
    assert metadata is not None and metadata.prompt == "a face" and metadata.canvas is not None
    assert metadata.redraw[0].startswith(f"{left},{top},{width},{height},strength=0.8,mask=")
    assert set(zip(*np.nonzero((pixels(made) != before).any(axis=2)), strict=True)) == set(
        zip(*np.nonzero(mask), strict=True)
    )
    # Both pictures lie over each other, and the tool is put away.
    assert user.page.is_visible("#split") and "after" in user.page.inner_text("#tag-after")
    assert user.page.get_attribute("#tool-redraw", "aria-pressed") == "false"
    assert user.page.inner_text("#edit-word") == "Edit" and user.mask() is None


def test_without_words_and_marks_the_prompt_of_the_picture_draws_all_of_it_again(visit, gate):
    gate.touch()
    user = with_a_result(visit, prompt=f"darker gate={gate}")
    gate.unlink()
    user.page.keyboard.press("r")
    assert user.page.is_visible("#strength")
    user.edit("", steps=4)
    user.reads("#notes", "Nothing is marked")
    gate.touch()
    user.done(2)
    metadata = read_metadata(user.saved("png"))
    assert metadata is not None and metadata.prompt.startswith("darker")
    assert metadata.redraw[0].startswith("0,0,256,256,steps=4")


def test_brush_and_redraw_are_one_at_a_time(visit):
    user = with_a_result(visit)
    pressed = "['tool-mask', 'tool-redraw'].map((id) => document.getElementById(id).getAttribute('aria-pressed'))"
    user.page.click("#tool-redraw")
    assert user.page.evaluate(pressed) == ["false", "true"]
    user.page.click("#tool-mask")
    assert user.page.evaluate(pressed) == ["true", "false"] and not user.page.is_visible("#strength")
    user.page.click("#tool-redraw")
    user.page.click("#brush-done")
    assert user.page.evaluate(pressed) == ["false", "true"] and not user.page.is_visible("#brush")
    user.page.click("#tool-redraw")
    assert user.page.evaluate(pressed) == ["false", "false"] and user.page.inner_text("#edit-word") == "Edit"


def test_a_box_is_erased_taken_back_and_framed_by_keyboard(visit):
    user = with_a_result(visit)
    user.page.click("#tool-redraw")
    framed(user)
    user.page.click("#brush-erase")
    user.stroke((0.4, 0.1), (0.5, 0.9))
    mask = user.mask()
    assert mask[96, 80] == 255 and mask[96, 115] == 0 and mask[96, 180] == 255
    user.page.click("#brush-undo")
    assert user.mask()[96, 115] == 255
    user.page.click("#brush-clear")
    user.page.click("#brush-erase")
    user.page.focus("#paint")
    user.page.keyboard.down(" ")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowDown"):
        user.page.keyboard.press(key)
    user.page.keyboard.up(" ")
    marked = user.mask() > 127
    rows, columns = np.nonzero(marked.any(axis=1))[0], np.nonzero(marked.any(axis=0))[0]
    assert len(rows) > 3 and marked.sum() == len(rows) * len(columns)


def test_a_part_is_drawn_again_on_a_phone(visit):
    user = with_a_result(visit, **PHONE)
    user.page.click("#tool-redraw")
    assert user.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    box = user.page.locator("#paint").bounding_box()
    user.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    user.edit("a face", steps=2)
    user.done(2)
    assert read_metadata(user.saved("png")).redraw

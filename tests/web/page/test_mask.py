"""The mask: what is painted is what is sent, white where to edit."""

from __future__ import annotations

from tests.web.page.visit import PHONE, PICTURE


def painting(visit, **options):
    user = visit(**options)
    user.choose(PICTURE)
    user.page.evaluate("scrollTo(0, 0)")
    user.page.click("#tool-mask")
    return user


def test_the_brush_paints_at_its_size_and_erases(visit):
    user = painting(visit)
    user.set("#brush-size", 60)
    user.stroke((0.3, 0.5), (0.7, 0.5))
    mask = user.mask()
    assert mask.shape == (256, 256) and mask[128, 128] == 255 and mask[20, 20] == 0
    wide = (mask[:, 128] > 127).sum()
    scale = 256 / user.page.locator("#paint").bounding_box()["width"]
    assert abs(wide - 60 * scale) <= 2
    user.page.click("#brush-erase")
    user.stroke((0.5, 0.3), (0.5, 0.7))
    mask = user.mask()
    assert mask[128, 128] == 0 and mask[128, 90] == 255


def test_keys_and_slider_change_the_size(visit):
    user = painting(visit)
    before = int(user.page.inner_text("#brush-size-now"))
    user.page.keyboard.press("]")
    assert int(user.page.inner_text("#brush-size-now")) == round(before * 1.25)
    user.page.keyboard.press("[")
    assert user.page.input_value("#brush-size") == str(before)


def test_feather_makes_the_edge_soft(visit):
    user = painting(visit)
    user.set("#brush-size", 160)
    user.stroke((0.5, 0.5), (0.51, 0.5))
    hard = user.mask()
    user.set("#brush-feather", 12)
    soft = user.mask()
    between = [int(((mask > 20) & (mask < 235)).sum()) for mask in (hard, soft)]
    assert between[1] > 4 * between[0]
    assert soft[128, 128] > 127 > soft[10, 10]


def test_invert_undo_and_clear(visit):
    user = painting(visit)
    user.stroke((0.5, 0.5), (0.55, 0.5))
    user.page.click("#brush-invert")
    mask = user.mask()
    assert mask[128, 132] == 0 and mask[5, 5] == 255
    user.page.click("#brush-undo")
    assert user.mask()[5, 5] == 0
    user.page.keyboard.press("Control+z")
    assert user.mask() is None
    user.stroke((0.5, 0.5), (0.55, 0.5))
    user.page.click("#brush-clear")
    assert user.mask() is None


def test_a_finger_paints_on_a_phone(visit):
    user = painting(visit, **PHONE)
    box = user.page.locator("#paint").bounding_box()
    user.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert user.mask()[128, 128] == 255


def test_the_keyboard_paints(visit):
    user = painting(visit)
    assert user.page.evaluate("document.activeElement.id") == "paint"
    user.page.keyboard.down(" ")
    for _ in range(4):
        user.page.keyboard.press("ArrowRight")
    user.page.keyboard.up(" ")
    for _ in range(12):
        user.page.keyboard.press("Shift+ArrowDown")
    mask = user.mask()
    assert mask[128, 128] == 255 and mask[128, 145] == 255 and mask[128, 100] == 0 and mask[250, 145] == 0
    user.page.keyboard.press("Escape")
    assert not user.page.is_visible("#brush") and user.page.is_visible("#paint"), "what is painted stays in sight"


def test_a_mask_that_marks_nothing_is_told(visit):
    user = painting(visit)
    user.stroke((0.5, 0.5), (0.55, 0.5))
    user.page.click("#brush-erase")
    user.stroke((0.4, 0.5), (0.65, 0.5))
    user.edit("darker", steps=1)
    user.reads("#notes", "The mask marks nothing: the whole picture may change.")


def test_the_strokes_are_there_again_when_one_goes_back(visit):
    user = painting(visit)
    user.stroke((0.5, 0.5), (0.55, 0.5))
    user.edit("darker", steps=1)
    user.done(1)
    assert user.mask() is None
    user.page.click("#tool-undo")
    user.done(0)
    assert user.mask()[128, 130] == 255


def test_the_mask_fits_a_large_picture(visit, tmp_path):
    from PIL import Image

    Image.new("RGB", (3000, 600), "gray").save(tmp_path / "wide.png")
    user = visit()
    user.choose(tmp_path / "wide.png")
    user.page.click("#tool-mask")
    user.stroke((0.5, 0.5), (0.52, 0.5))
    mask = user.mask()
    assert mask.shape == (600, 3000) and mask[300, 1515] == 255 and mask[300, 100] == 0

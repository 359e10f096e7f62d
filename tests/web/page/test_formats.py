"""The page takes what the daemon reads, shows what its browser does not, and converts what only its browser reads."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata
from qied_client.pixels import plugins

from tests.web.page.visit import TIMES, Visit

needs_heif = pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs the extra formats")


@pytest.fixture
def phone_picture(tmp_path: Path) -> Path:
    """A HEIC as phones write them, which lies on its side."""
    plugins.load_plugin("heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.heic"
    Image.new("RGB", (96, 64), "red").save(path, exif=exif.tobytes())
    return path


def only(user: Visit, *formats: str) -> None:
    """Have the page believe that the daemon reads these formats."""

    def answer(route) -> None:
        told = route.fetch()
        route.fulfill(response=told, body=json.dumps({**told.json(), "picture_formats": formats}))

    user.page.route("**/api/me", answer)
    user.page.reload()
    user.wait("#presets button")


def sent_kind(user: Visit) -> str:
    return user.page.evaluate(
        """async () => {
            const [{ state }, { kindOf }] = [await import("/page/state.js"), await import("/page/picture_file.js")];
            return kindOf(state.pictures[0].blob);
        }"""
    )


def test_what_the_daemon_reads_is_offered(visit):
    user = visit()
    user.until("() => document.querySelector('#drop-hint').textContent.includes('AVIF')")
    assert "image/avif" in user.page.get_attribute("#file", "accept")
    user.page.click("[data-language]:visible")
    assert "AVIF" in user.page.inner_text("#drop-hint")


def test_an_avif_goes_to_the_daemon_as_it_is(visit, tmp_path):
    Image.new("RGB", (96, 64), "red").save(tmp_path / "red.avif")
    user = visit()
    user.choose(tmp_path / "red.avif")
    assert user.page.inner_text("#tag-after") == f"96 {TIMES} 64"
    assert sent_kind(user) == "avif"
    user.edit("darker", steps=1)
    user.done(1)


def test_an_avif_becomes_a_png_where_only_the_browser_reads_it(visit, tmp_path):
    Image.new("RGB", (96, 64), "red").save(tmp_path / "red.avif")
    user = visit()
    only(user, "png", "jpeg", "webp")
    user.until("() => document.querySelector('#drop-hint').textContent.includes('PNG, JPEG, WebP or AVIF')")
    user.choose(tmp_path / "red.avif")
    assert sent_kind(user) == "png"
    user.edit("darker", steps=1)
    user.done(1)
    made = read_metadata(user.saved("png"))
    assert made is not None and made.width > made.height


@needs_heif
def test_a_heic_is_shown_upright_in_a_browser_that_reads_none_and_edited_as_it_is(visit, phone_picture):
    user = visit()
    user.choose(phone_picture)
    assert user.page.inner_text("#tag-after") == f"64 {TIMES} 96"
    assert sent_kind(user) == "heif"
    user.edit("darker", steps=1)
    user.done(1)
    user.page.reload()
    user.done(1)
    user.page.click('.turn[data-turn="0"]')
    user.done(0)
    assert user.page.inner_text("#tag-after") == f"64 {TIMES} 96"
    shows = "document.querySelector('.turn[data-turn=\"0\"] .thumb').style.backgroundImage.startsWith('url')"
    user.until(f"() => {shows}")


@needs_heif
def test_a_heic_becomes_a_jpeg_where_the_daemon_reads_none(visit, phone_picture):
    user = visit()
    only(user, "png", "jpeg", "webp")
    user.choose(phone_picture)
    assert sent_kind(user) == "jpeg"
    assert user.page.inner_text("#tag-after") == f"64 {TIMES} 96"


@needs_heif
def test_a_heic_that_is_cut_short_is_told(visit, phone_picture):
    phone_picture.write_bytes(phone_picture.read_bytes()[:-100])
    user = visit(expected=("400",))
    user.page.set_input_files("#file", str(phone_picture))
    user.reads("#toast-text", "phone.heic cannot be read as a picture.")

"""The page in a real Chromium, before a real daemon with the built-in model."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qied.resources import builtin_model_folder
from tests.daemon.conftest import DaemonProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("QIED_TEST_REQUIRE_BROWSER") == "1"
if CHROMIUM is None and not REQUIRED:
    pytest.skip("needs a Chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", exc_type=ImportError) if not REQUIRED else None
if sync_api is None:
    from playwright import sync_api  # type: ignore[no-redef]

PICTURE = builtin_model_folder().parent / "demo.png"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS = {"light": {"color_scheme": "light"}, "dark": {"color_scheme": "dark"}, "phone": PHONE}
_WAIT_MS = 60_000


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory, daemon_process) -> Iterator[DaemonProcess]:
    """One daemon with the built-in model."""
    daemon = daemon_process(tmp_path_factory.mktemp("builtin") / "home", engine="qied.engine.serving:load")
    yield daemon.start()
    daemon.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Visit:
    """One person at the page: what they do, and what the console said meanwhile."""

    def __init__(self, browser: Any, url: str, token: str | None, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, locale="en", **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(_WAIT_MS)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{url}/#token={token}" if token else url)
        if token:
            self.page.wait_for_selector("#presets button")

    def choose(self, *pictures: Path) -> None:
        self.page.set_input_files("#file", [str(picture) for picture in pictures])
        self.page.wait_for_selector("#canvas:not([hidden])")

    def edit(self, prompt: str, *, steps: int | None = None) -> None:
        self.page.fill("#prompt", prompt)
        if steps is not None:
            self.page.evaluate("value => { document.getElementById('steps').value = value }", str(steps))
        self.page.click("#edit")

    def done(self, turn: int) -> None:
        """Wait until a turn is there and shown."""
        self.page.wait_for_selector(f'.turn[data-turn="{turn}"][aria-current="true"]:not(.running)')

    def saved(self, kind: str) -> Image.Image:
        self.page.click("#tool-save")
        with self.page.expect_download() as download:
            self.page.click(f'#save-menu [data-format="{kind}"]')
        return Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))


@pytest.fixture
def visit(browser, gateway, shared_daemon, request) -> Iterator[Callable[..., Visit]]:
    """Open the page as a new user."""
    visits: list[Visit] = []

    def open_page(name: str = "eva", **options: Any) -> Visit:
        user = f"{name}-{abs(hash(request.node.name)) % 10**6}"
        shared_daemon.enrol(user)
        visits.append(Visit(browser, gateway.url, gateway.tokens.add(user)[0], **options))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()
        assert each.complaints == []


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_a_first_visit_ends_with_a_saved_picture(browser, gateway, token):
    first = Visit(browser, gateway.url, None)
    assert first.page.is_visible("#login")
    first.page.fill("#token", "qied-wrong")
    first.page.click("#login-form button")
    first.page.wait_for_selector("#login-error:not([hidden])")
    first.page.fill("#token", token)
    first.page.keyboard.press("Enter")
    first.page.wait_for_selector("#presets button")
    first.choose(PICTURE)
    first.page.fill("#prompt", "make the red heart blue")
    first.page.keyboard.press("Control+Enter")
    first.page.wait_for_selector("#forming:not([hidden])")
    first.done(1)
    picture = pixels(first.saved("png"))
    assert picture[120, 128][2] > 180 > picture[120, 128][0], "the heart turned blue"
    assert first.saved("jpeg").format == "JPEG" and first.saved("webp").format == "WEBP"
    first.context.close()
    assert [text for text in first.complaints if "401" not in text] == []  # Chromium's own line about the wrong token


def test_a_mask_keeps_what_is_outside_to_the_pixel(visit):
    user = visit()
    user.choose(PICTURE)
    user.page.keyboard.press("b")
    box = user.page.locator("#paint").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    user.page.mouse.move(x - 30, y)
    user.page.mouse.down()
    user.page.mouse.move(x + 30, y, steps=5)
    user.page.mouse.up()
    user.edit("make the red heart blue", steps=4)
    user.done(1)
    before, after = pixels(Image.open(PICTURE)), pixels(user.saved("png"))
    assert (before[:40] == after[:40]).all() and (before[:, :30] == after[:, :30]).all()
    assert (before != after).any()


def test_undo_goes_back_and_the_next_edit_branches(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("make the red heart blue", steps=1)
    user.done(1)
    user.page.click("#tool-undo")
    user.done(0)
    user.edit("make the green square red", steps=1)
    user.done(2)
    assert user.page.locator(".branch").all_inner_texts() == ["→", "⤳"]


def test_cancel_stops_the_edit(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("make the red heart blue", steps=150)
    user.page.wait_for_selector("#run-cancel:visible")
    user.page.click("#run-cancel")
    user.page.wait_for_selector("#run[hidden]", state="attached")
    user.page.wait_for_selector('.turn.failed[data-turn="1"]')


def test_a_reload_in_the_middle_of_an_edit_loses_nothing(visit):
    user = visit()
    user.choose(PICTURE)
    user.edit("make the red heart blue", steps=40)
    user.page.wait_for_selector("#forming:not([hidden])")
    user.page.reload()
    user.page.wait_for_selector("#run:not([hidden])")
    user.done(1)


def test_two_people_at_once_see_their_own(visit):
    one, other = visit("ida"), visit("ada")
    for user, prompt in ((one, "make the red heart blue"), (other, "make the green square red")):
        user.choose(PICTURE)
        user.edit(prompt, steps=4)
    for user in (one, other):
        user.done(1)
        assert user.page.locator(".turn").count() == 2


def test_four_variations_are_four_turns(visit):
    user = visit()
    user.choose(PICTURE)
    user.page.select_option("#count", "4")
    user.edit("make the red heart blue", steps=1)
    user.done(4)
    assert user.page.locator(".turn").count() == 5


def test_an_old_result_brings_its_settings_back(visit, tmp_path):
    user = visit()
    user.choose(PICTURE)
    user.edit("make the red heart blue", steps=3)
    user.done(1)
    user.saved("png").save(tmp_path / "copy.png")  # without metadata
    user.page.click("#tool-save")
    with user.page.expect_download() as download:
        user.page.click('#save-menu [data-format="png"]')
    result = tmp_path / "result.png"
    result.write_bytes(Path(download.value.path()).read_bytes())
    again = visit("eve")
    again.choose(result)
    assert again.page.input_value("#prompt") == "make the red heart blue"
    assert again.page.input_value("#steps") == "3"
    assert again.page.input_value("#seed") != ""


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("options", LOOKS.values(), ids=LOOKS)
def test_it_fits_and_is_accessible(visit, options, language):
    from axe_playwright_python.sync_playwright import Axe

    user = visit(**options)
    if language == "zh":
        user.page.click("#language")
    user.choose(PICTURE)
    assert user.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = Axe().run(user.page).response["violations"]
    assert [(each["id"], each["help"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_what_is_not_a_picture_is_told(visit, tmp_path):
    user = visit()
    (tmp_path / "notes.txt").write_text("no picture")
    user.page.set_input_files("#file", str(tmp_path / "notes.txt"))
    user.page.wait_for_selector("#toast:not([hidden])")
    assert "notes.txt is not a PNG, JPEG or WebP picture." in user.page.inner_text("#toast")

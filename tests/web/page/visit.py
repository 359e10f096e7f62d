"""One person at the page: what they do, what they see, and what the browser's console said meanwhile."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qied.resources import builtin_model_folder

PICTURE = builtin_model_folder().parent / "demo.png"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "tablet": {"viewport": {"width": 1024, "height": 768}},
    "phone": PHONE,
    "phone dark": {**PHONE, "color_scheme": "dark"},
}
TIMES = "\N{MULTIPLICATION SIGN}"
_WAIT_MS = 60_000
AWAY = ("ERR_EMPTY_RESPONSE", "ERR_CONNECTION", "ERR_INCOMPLETE_CHUNKED", "ERR_SOCKET", "ERR_CONTENT_LENGTH")
"""What Chromium itself writes when a line is cut."""


class Visit:
    """A browser's context with one page, opened with a token in its address, or without one.

    ``expected`` are parts of lines that the console may show.
    """

    user = ""

    def __init__(
        self, browser: Any, url: str, token: str | None, expected: tuple[str, ...] = (), **options: Any
    ) -> None:
        self.context = browser.new_context(**{"accept_downloads": True, "locale": "en", **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(_WAIT_MS)
        self._expected = expected
        self._said: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self._said.append(message.text))
        self.page.on("pageerror", lambda error: self._said.append(str(error)))
        self.page.goto(f"{url}/#token={token}" if token else url)
        if token:
            self.wait("#presets button")

    @property
    def unexpected(self) -> list[str]:
        """What the console said that the test does not expect."""
        return [text for text in self._said if not any(part in text for part in self._expected)]

    def wait(self, selector: str, state: str = "visible") -> Any:
        """Wait until it is there and seen, or as ``state`` says."""
        return self.page.wait_for_selector(selector, state=state)

    def until(self, condition: str, argument: object = None) -> None:
        """Wait until a function of JavaScript is true. Playwright's own wait needs eval, which the page forbids."""
        waiting = "while (!condition(argument)) await new Promise((done) => setTimeout(done, 20));"
        self.page.evaluate(f"async (argument) => {{ const condition = {condition}; {waiting} }}", argument)

    def reads(self, selector: str, text: str) -> None:
        """Wait until an element shows a text as part of what it says."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def choose(self, *pictures: Path) -> None:
        self.page.set_input_files("#file", [str(picture) for picture in pictures])
        self.wait("#canvas")

    def edit(self, prompt: str, *, steps: int | None = None) -> None:
        self.page.fill("#prompt", prompt)
        if steps is not None:
            self.set("#steps", steps)
        self.page.click("#edit")

    def set(self, selector: str, value: object) -> None:
        """Set a field, whether it is in sight or not."""
        self.page.evaluate(
            "([at, value]) => { const field = document.querySelector(at); field.value = value;"
            " field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change')); }",
            [selector, str(value)],
        )

    def done(self, turn: int) -> None:
        """Wait until a turn is there and shown."""
        self.wait(f'.turn[data-turn="{turn}"][aria-current="true"]:not(.running)')

    def saved(self, kind: str) -> bytes:
        """The file that the person saves."""
        self.page.click("#tool-save")
        with self.page.expect_download() as download:
            self.page.click(f'#save-menu [data-format="{kind}"]')
        return Path(download.value.path()).read_bytes()

    def mask(self) -> np.ndarray | None:
        """The mask as it would be sent: rows of gray values; None where nothing is painted."""
        address = self.page.evaluate(
            """async () => {
                const { mask } = await import("/page/brush.js");
                const file = await mask.file();
                return file && await new Promise((done) => {
                    const reader = new FileReader();
                    reader.onload = () => done(reader.result);
                    reader.readAsDataURL(file);
                });
            }"""
        )
        if address is None:
            return None
        data = base64.b64decode(address.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)

    def stroke(self, *points: tuple[float, float]) -> None:
        """Draw through points of the picture, as shares of its width and height."""
        box = self.page.locator("#paint").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()


def pixels(data: bytes) -> np.ndarray:
    """Rows of RGB values of a picture file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

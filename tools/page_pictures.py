"""Takes docs/pictures/web-page*.png: the page in a Chromium, before a daemon with the built-in model.

The browser is ``chromium``, ``chromium-browser`` or ``google-chrome``, the first that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from qied_client.web.tokens import TokenStore

from qied.resources import builtin_model_folder

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
LOOKS: dict[str, dict[str, Any]] = {
    "web-page": {**DESKTOP, "color_scheme": "light"},
    "web-page-dark": {**DESKTOP, "color_scheme": "dark"},
    "web-page-phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
MOST_BYTES = 300_000
FREE_PORTS = ("--listen", "tcp://127.0.0.1:*", "--web", "127.0.0.1:0", "--log-format", "json")
_PATIENCE_MS = 120_000


@dataclass(frozen=True)
class Door:
    """A web gateway: its address, and a token of the machine's owner."""

    url: str
    token: str


@contextmanager
def daemon() -> Iterator[Door]:
    """A daemon with the built-in model and its web gateway, on free ports and in a folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--home", home, *FREE_PORTS],
            stderr=subprocess.PIPE,
            env={**os.environ, "QIED_HOME": home},
        )
        try:
            assert process.stderr is not None
            lines = map(json.loads, process.stderr)
            url = next(line["address"] for line in lines if line["event"] == "web gateway")
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the daemon
            yield Door(url, TokenStore(Path(home) / "tokens.json").add("local")[0])
        finally:
            process.terminate()
            process.wait(timeout=60)


def edit(page: Page, prompt: str, turn: int, preset: str = "final") -> None:
    """Do one edit, and wait until its picture is shown."""
    page.click(f'[data-preset="{preset}"]')
    page.fill("#prompt", prompt)
    page.click("#edit")
    page.wait_for_selector(f'.turn[data-turn="{turn}"][aria-current="true"]:not(.running)')


def history(page: Page) -> None:
    """Edits with a branch, the last of which still forms."""
    page.wait_for_selector("#presets button")
    page.set_input_files("#file", str(builtin_model_folder().parent / "demo.png"))
    page.wait_for_selector("#canvas:not([hidden])")
    edit(page, "make the red heart blue", 1)
    edit(page, "make the green square orange", 2)
    page.click('.turn[data-turn="1"]')
    edit(page, "remove the purple triangle", 3)
    page.click('.turn[data-turn="1"][aria-current="false"]')
    page.wait_for_selector('.turn[data-turn="1"][aria-current="true"]')


def take(browser: Browser, url: str, visited: Any, name: str, options: dict[str, Any]) -> None:
    """Take one picture of the page, where the browser whose storage is ``visited`` has left it."""
    context = browser.new_context(locale="en", reduced_motion="reduce", storage_state=visited, **options)
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(url)
    page.wait_for_selector('.turn[data-turn="1"][aria-current="true"]')
    page.fill("#prompt", "make the yellow star red")
    page.locator("#presets small", has_text="·").first.wait_for()
    target = PICTURES / f"{name}.png"
    page.screenshot(path=target)
    Image.open(target).convert("RGB").save(target, optimize=True)
    assert target.stat().st_size < MOST_BYTES, f"{target.name} is larger than {MOST_BYTES} bytes"
    context.close()


def main() -> None:
    """Take all of them."""
    installed = next(path for path in map(shutil.which, BROWSERS) if path)
    with daemon() as door, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        first = browser.new_page()
        first.set_default_timeout(_PATIENCE_MS)
        first.goto(f"{door.url}/#token={door.token}")
        history(first)
        for name, options in LOOKS.items():
            take(browser, door.url, first.context.storage_state(), name, options)
        browser.close()


if __name__ == "__main__":
    main()

"""The page in a real Chromium, before a real gateway and a real daemon with the plain engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import DaemonProcess, StartDaemon
from tests.web.conftest import GatewayProcess
from tests.web.page.line import Line
from tests.web.page.visit import Visit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("QIED_TEST_REQUIRE_BROWSER") == "1"

OpenPage = Callable[..., Visit]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for one file: while it runs, this thread has a loop, in which tests of others cannot run theirs.

    Without one the tests are skipped, unless QIED_TEST_REQUIRE_BROWSER is 1.
    """
    if not REQUIRED:
        pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    if CHROMIUM is None and not REQUIRED:
        pytest.skip("needs a Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with the plain engine for all tests that leave it as it was."""
    daemon = DaemonProcess(tmp_path_factory.mktemp("plain") / "home", engine="plain_engine:load", environ={}).start()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="session")
def gateway(shared_daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Its gateway."""
    running = GatewayProcess(shared_daemon.key, tmp_path_factory.mktemp("gateway") / "tokens.json")
    yield running
    running.kill()


@pytest.fixture
def open_at(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open the page at an address with a token; the console may say nothing but what the test expects."""
    visits: list[Visit] = []

    def open_page(url: str, token: str | None, *, expected: tuple[str, ...] = (), **options: Any) -> Visit:
        visits.append(Visit(browser, url, token, expected, **options))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()
        assert each.unexpected == []


@pytest.fixture
def own_door(
    start_daemon: StartDaemon, tmp_path: Path
) -> Iterator[Callable[..., tuple[DaemonProcess, GatewayProcess]]]:
    """Start a daemon and a gateway for one test. Named before ``open_at``, they outlast its pages."""
    gateways: list[GatewayProcess] = []

    def start(**options: str) -> tuple[DaemonProcess, GatewayProcess]:
        daemon = start_daemon(**options)
        gateways.append(GatewayProcess(daemon.key, tmp_path / "tokens.json"))
        return daemon, gateways[-1]

    yield start
    for gateway in gateways:
        gateway.kill()


@pytest.fixture
def visit(
    open_at: OpenPage, gateway: GatewayProcess, shared_daemon: DaemonProcess, request: pytest.FixtureRequest
) -> OpenPage:
    """Open the page as a new user."""

    def open_page(name: str = "eva", *, url: str | None = None, **options: Any) -> Visit:
        user = f"{name}-{abs(hash(request.node.name)) % 10**6}"
        shared_daemon.enrol(user)
        page = open_at(url or gateway.url, gateway.tokens.add(user)[0], **options)
        page.user = user
        return page

    return open_page


@pytest.fixture
def line(gateway: GatewayProcess) -> Iterator[Line]:
    """The line to the gateway, which can be cut."""
    with Line(gateway.url) as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file for which edits wait whose prompt ends in ``gate=PATH``."""
    return tmp_path / "go"

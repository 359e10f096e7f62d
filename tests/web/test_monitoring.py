"""Figures, readiness and the plan through the web gateway: who may see what, before a real daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest
from qied_client.credentials import read_credential
from qied_client.protocol.readiness import REASONS

from qied.server.access.keys import KeyStore, write_credential
from tests.daemon.scraping import Scrape, wait_until
from tests.web.conftest import GatewayProcess


def asking(gateway: GatewayProcess, user: str | None = None) -> httpx.Client:
    headers = {} if user is None else {"Authorization": f"Bearer {gateway.tokens.add(user)[0]}"}
    return httpx.Client(base_url=gateway.url, headers=headers, timeout=60)


@pytest.fixture
def own_gateway(start_daemon, tmp_path) -> Iterator[Callable[..., tuple[object, GatewayProcess]]]:
    """A daemon and a gateway of its own, which a test may harm."""
    opened: list[GatewayProcess] = []

    def start(key=None, **environ: str):
        daemon = start_daemon(**environ)
        opened.append(GatewayProcess(key(daemon) if key else daemon.key, tmp_path / "tokens.json"))
        return daemon, opened[-1]

    yield start
    for gateway in opened:
        gateway.kill()


def test_figures_are_for_the_owner(gateway, shared_daemon, picture):
    shared_daemon.enrol("mon-lin")
    with asking(gateway, "local") as owner, asking(gateway, "mon-lin") as lin, asking(gateway) as stranger:
        assert lin.post("/v1/images/edits", data={"prompt": "calm", "steps": "1"}, files={"image": picture}).is_success
        answer = owner.get("/metrics")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert Scrape(answer.text).value("qied_jobs_total", outcome="succeeded") >= 1
        assert lin.get("/metrics").json()["error"]["code"] == "not_permitted"
        assert lin.get("/metrics").status_code == 403
        assert stranger.get("/metrics").status_code == 401


def test_everybody_hears_whether_it_is_ready(gateway, shared_daemon):
    with asking(gateway) as stranger, shared_daemon.client() as owner:
        assert stranger.get("/ready").json() == {"ready": True, "code": "ready", "reason": REASONS["ready"]}
        owner.control("pause")
        wait_until(lambda: stranger.get("/ready").status_code == 503)
        assert stranger.get("/ready").json() == {"ready": False, "code": "paused", "reason": REASONS["paused"]}
        assert stranger.get("/health").status_code == 200
        owner.control("resume")
        wait_until(lambda: stranger.get("/ready").status_code == 200)


def test_what_everybody_hears_of_a_trouble_names_nothing(own_gateway, tmp_path):
    broken = tmp_path / "broken"
    daemon, gateway = own_gateway(QIED_TEST_BROKEN=str(broken))
    broken.write_text("/data/secret/model cannot be read.")
    os.kill(daemon.worker_pid, signal.SIGKILL)
    daemon.wait_for("a worker cannot work")
    with asking(gateway) as stranger:
        wait_until(lambda: stranger.get("/ready").json()["code"] == "trouble")
        assert "secret" not in stranger.get("/ready").text


def test_without_the_daemon_the_door_lives_and_is_not_ready(own_gateway):
    daemon, gateway = own_gateway()
    with asking(gateway) as stranger:
        wait_until(lambda: stranger.get("/ready").status_code == 200)
        daemon.kill()
        wait_until(lambda: stranger.get("/ready").json()["code"] == "unreachable")
        assert stranger.get("/ready").status_code == 503
        assert stranger.get("/health").status_code == 200
        daemon.listen = read_credential(daemon.key).endpoint
        daemon.start()
        wait_until(lambda: stranger.get("/ready").status_code == 200)


def test_a_gateway_with_a_key_of_its_own_knows_whether_it_is_ready_but_no_figures(own_gateway):
    def enrolled(daemon):
        path = daemon.home.parent / "web.key.json"
        endpoint = read_credential(daemon.key).endpoint
        write_credential(path, KeyStore(daemon.home).add("web", endpoint, gateway=True))
        return path

    _, gateway = own_gateway(enrolled)
    with asking(gateway) as stranger, asking(gateway, "local") as owner:
        assert stranger.get("/ready").json()["ready"] is True
        assert owner.get("/metrics").status_code == 403


def test_the_plan_is_whole_for_the_owner_and_its_caps_are_for_all(gateway, shared_daemon):
    shared_daemon.enrol("mon-kim")
    with asking(gateway, "local") as owner, asking(gateway, "mon-kim") as kim:
        whole, part = owner.get("/api/plan").json(), kim.get("/api/plan").json()
    assert {name: value for name, value in whole.items() if name not in ("plans", "workers")} == part
    assert part["max_pixels"] > 0 and part["side_multiple"] == 16
    assert all(preset["expected_ms"] > 0 for preset in part["presets"])
    (plan,), (worker,) = whole["plans"], whole["workers"]
    assert plan["schema"] == 1 and plan["reasons"] and plan["blocks"]["total"] == plan["blocks"]["resident"]
    assert plan["budget_bytes"] > 0 and plan["max_pixels"] == part["max_pixels"]
    assert worker["budget"] == worker["weights"] + worker["sessions"] + worker["arena"] + worker["free"]

"""Figures of a real daemon: each moves when what it counts happens, and nothing that clients send becomes a label."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from qied_client.errors import NotPermitted, UnknownPreset
from qied_client.protocol import messages as m
from qied_client.protocol.readiness import REASONS

from qied.metrics.figures import CAUSES, DIRECTIONS, OUTCOMES, PIXEL_CLASSES, STAGES
from qied.resources import builtin_model_folder
from tests.daemon.conftest import DaemonProcess
from tests.daemon.scraping import Scrape, get, ready, scrape, wait_until

GIB = 1024**3
SMALL = {"seed": 1, "width": 64, "height": 48}
LABELS = {
    "outcome": set(OUTCOMES),
    "profile": {"builtin"},
    "preset": {"preview", "draft", "final", "none"},
    "pixels_class": set(PIXEL_CLASSES),
    "stage": set(STAGES.values()),
    "cause": set(CAUSES),
    "direction": set(DIRECTIONS),
    "kind": {"budget", "planned", "measured"},
    "state": {"starting", "ready", "draining", "lost", "unloaded"},
    "card": {"cpu"},
}
"""Every label that there may be, but the numbers of histograms, the codes of errors and the facts of qied_info."""


def with_figures(daemon: DaemonProcess) -> str:
    """Start it with its figures at a free port; returns the address."""
    daemon.arguments += ["--metrics", "127.0.0.1:*"]
    daemon.start_unready()
    address = daemon.wait_for("metrics")["address"]
    daemon.wait_for("ready")
    return address


@pytest.fixture(scope="module")
def watched(daemon_process, tmp_path_factory) -> Iterator[tuple[DaemonProcess, str]]:
    """One daemon with the plain engine for all tests that leave it as it was, and where its figures are."""
    daemon = daemon_process(tmp_path_factory.mktemp("watched") / "home")
    yield daemon, with_figures(daemon)
    if daemon.runs:
        daemon.kill()


def test_every_family_moves_when_its_thing_happens(daemon_process, tmp_path):
    """With the model that computes: an edit, a cancel, a refusal, a session, and a worker that is killed."""
    daemon = daemon_process(tmp_path / "home", engine="qied.engine.serving:load")
    address = with_figures(daemon)
    picture = (builtin_model_folder().parent / "demo.png").read_bytes()
    before = scrape(address)
    with daemon.client() as client:
        client.edit(picture, "make the red heart blue", preset="preview", previews=True)
        job = client.submit(picture, "make the red heart blue", steps=200)
        job.cancel()
        with pytest.raises(UnknownPreset):
            client.edit(picture, "secret words", preset="hostile-label")
        with client.session(picture, name="private-name"):
            assert scrape(address).value("qied_sessions") == 1
            os.kill(daemon.worker_pid, signal.SIGKILL)
            daemon.wait_for("worker ended")
            daemon.wait_for("worker ready")
        after = scrape(address)
    daemon.stop()

    def moved(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert moved("qied_jobs_total", outcome="succeeded", profile="builtin") == 1
    assert moved("qied_jobs_total", outcome="cancelled") == 1
    assert moved("qied_job_queue_seconds_count") >= 1
    assert moved("qied_job_seconds_count", preset="preview") == 1 and moved("qied_job_seconds_sum") > 0
    assert moved("qied_step_seconds_count", pixels_class="0.3mp") >= 3 and moved("qied_step_seconds_sum") > 0
    assert moved("qied_packed_edits_count") >= 4
    assert moved("qied_previews_total") >= 1
    for stage in ("encode_text", "encode_vae", "denoise", "decode", "encode_file"):
        assert moved("qied_stage_seconds_count", stage=stage) == 1, stage
        assert moved("qied_stage_seconds_sum", stage=stage) > 0, stage
    assert moved("qied_rejected_total", code="unknown_preset") == 1
    assert moved("qied_worker_restarts_total") == moved("qied_worker_restarts_total", cause="killed") == 1
    assert moved("qied_journal_fsync_seconds_count") > 0 and moved("qied_journal_fsync_seconds_sum") > 0
    assert all(moved("qied_link_bytes_total", direction=way) > len(picture) for way in DIRECTIONS)
    planned = after.value("qied_vram_bytes", kind="planned", card="cpu")
    assert after.value("qied_vram_bytes", kind="budget", card="cpu") >= planned > 0
    assert after.value("qied_workers", state="ready") == 1
    (info,) = after.of("qied_info")
    assert (info.labels["model"], info.labels["precision"]) == ("builtin", "fp32")
    assert all(info.labels[name] for name in ("version", "torch", "gpu"))
    _check_labels(after)


def _check_labels(found: Scrape) -> None:
    for sample in found.samples:
        for name, value in sample.labels.items():
            if sample.name == "qied_info" or name in ("le", "code"):
                continue
            assert value in LABELS[name], sample


def test_what_waits_and_runs_and_what_the_card_holds_are_those_of_the_moment(daemon_process, tmp_path, picture):
    memory, gate = tmp_path / "memory", tmp_path / "gate"
    memory.write_text(f"{1 * GIB} {1000 * GIB}")
    environ = {
        "QIED_TEST_MEMORY": str(memory),
        "QIED_WORKER_BUDGET_BYTES": str(4 * GIB),
        "QIED_LIMITS_JOBS_RUNNING_PER_USER": "1",
    }
    daemon = daemon_process(tmp_path / "home", **environ)
    address = with_figures(daemon)
    wait_until(lambda: scrape(address).value("qied_vram_bytes", kind="measured") == GIB)
    with daemon.client() as client:
        first = client.submit(picture, f"gate={gate}", **SMALL)
        second = client.submit(picture, "calm", **SMALL)
        daemon.wait_for("started", job=first.id)
        found = scrape(address)
        assert (found.value("qied_jobs_running"), found.value("qied_jobs_queued")) == (1, 1)
        planned = found.value("qied_vram_bytes", kind="planned")
        assert found.value("qied_plan_error_ratio") == pytest.approx(GIB / planned - 1)
        memory.write_text(f"{3 * GIB} {1000 * GIB}")
        wait_until(lambda: scrape(address).value("qied_plan_error_ratio") == pytest.approx(3 * GIB / planned - 1))
        memory.write_text(f"{2 * GIB} {1000 * GIB}")
        wait_until(lambda: scrape(address).value("qied_vram_bytes", kind="measured") == 2 * GIB)
        assert scrape(address).value("qied_plan_error_ratio") == pytest.approx(3 * GIB / planned - 1)
        gate.touch()
        first.result()
        second.result()
        found = scrape(address)
        assert (found.value("qied_jobs_running"), found.value("qied_jobs_queued")) == (0, 0)
    daemon.stop()


def test_edits_that_do_not_succeed_and_workers_that_die_of_them(watched, picture):
    daemon, address = watched
    with daemon.client() as client:
        for word, outcome, cause in (
            ("fail", "failed", ""),
            ("lost", "poisoned", "device_lost"),
            ("crash", "poisoned", "exit"),
        ):
            before = scrape(address)
            client.submit(picture, word, steps=2, **SMALL).outcome()
            after = scrape(address)

            def moved(name: str, before: Scrape = before, after: Scrape = after, **labels: str) -> float:
                return after.value(name, **labels) - before.value(name, **labels)

            assert moved("qied_jobs_total") == moved("qied_jobs_total", outcome=outcome) == 1
            assert moved("qied_job_seconds_count") == 0
            assert moved("qied_worker_restarts_total") == (2 if cause else 0)
            if cause:
                assert moved("qied_worker_restarts_total", cause=cause) == 2


def test_readiness_follows_the_worker_and_the_queue_with_the_reason(watched):
    daemon, address = watched
    wait_until(lambda: ready(address)[0] == 200)
    assert ready(address) == (
        200,
        {"ready": True, "code": "ready", "reason": REASONS["ready"]},
    )
    with daemon.client() as client:
        for action, code in (("pause", "paused"), ("unload", "paused"), ("resume", "unloaded")):
            client.control(action)
            status, said = ready(address)
            assert (status, said["code"], said["ready"]) == (503, code, False)
            assert said["reason"].endswith(".")
        client.control("load")
        daemon.wait_for("worker ready")
        wait_until(lambda: ready(address)[0] == 200)


def test_readiness_tells_the_trouble_that_ps_shows(daemon_process, tmp_path):
    broken = tmp_path / "broken"
    daemon = daemon_process(tmp_path / "home", QIED_TEST_BROKEN=str(broken))
    address = with_figures(daemon)
    broken.write_text("CUDA unknown error.")
    os.kill(daemon.worker_pid, signal.SIGKILL)
    daemon.wait_for("a worker cannot work")
    with daemon.client() as client:
        trouble = client.status().workers[0].trouble
    assert ready(address) == (503, {"ready": False, "code": "trouble", "reason": trouble})
    assert trouble == "CUDA unknown error. Mend it."
    assert get(address, "/health") == (200, '{"status": "ok"}\n')
    wait_until(lambda: scrape(address).value("qied_worker_restarts_total", cause="engine_broken") >= 1)
    daemon.kill()


def test_a_daemon_that_loads_lives_and_is_not_ready(daemon_process, tmp_path):
    gate = tmp_path / "gate"
    daemon = daemon_process(tmp_path / "home", engine="plain_engine:load_at_gate", QIED_TEST_GATE=str(gate))
    daemon.arguments += ["--metrics", "127.0.0.1:*"]
    daemon.start_unready()
    address = daemon.wait_for("metrics")["address"]
    assert ready(address) == (503, {"ready": False, "code": "loading", "reason": REASONS["loading"]})
    assert get(address, "/health")[0] == 200
    daemon.wait_for("worker started")
    assert ready(address)[0] == 503
    assert scrape(address).value("qied_workers", state="starting") == 1
    gate.touch()
    daemon.wait_for("ready")
    assert ready(address)[0] == 200
    daemon.kill()


def test_only_the_owner_sees_the_figures_over_the_protocol(watched):
    daemon, address = watched
    with daemon.client() as owner, daemon.client(daemon.enrol("lin")) as lin:
        before = scrape(address).value("qied_rejected_total", code="not_permitted")
        for ask in (lin.metrics, lin.plans):
            with pytest.raises(NotPermitted, match="owner"):
                ask()
        assert Scrape(owner.metrics()).value("qied_rejected_total", code="not_permitted") == before + 2


def test_a_repeated_or_hostile_message_makes_no_new_series(watched):
    daemon, address = watched
    with daemon.raw() as raw:
        raw.hello()
        before = scrape(address)
        known = {tuple(sample.labels.items()) for sample in before.samples}
        for number in range(50):
            raw.send_header(b"STATUS", {"id": raw.next_id(), f"key-{number}": "x" * number})
            raw.news(m.Failure)
            raw.send_header(f"TYPE{number}".encode(), {})
            raw.news(m.Failure)
    found = scrape(address)
    refused = [each.value("qied_rejected_total", code="protocol_error") for each in (before, found)]
    assert refused[1] - refused[0] == 100
    fresh = {tuple(sample.labels.items()) for sample in found.samples} - known
    assert fresh <= {(("code", "protocol_error"),)}


def test_a_port_in_use_is_told_before_anything_is_loaded(daemon_process, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = daemon_process(tmp_path / "home")
        daemon.arguments += ["--metrics", f"127.0.0.1:{port}"]
        daemon.start_unready()
        assert daemon.wait() == 2
    said = " ".join(line.get("text", "") for line in daemon.log)
    assert "daemon.metrics" in said and f"port {port} is in use" in said and "--metrics" in said
    assert not [line for line in daemon.log if line.get("event") in ("planned", "listening")]


def test_scrapers_that_never_read_hold_neither_others_nor_edits_up(watched, picture):
    daemon, address = watched
    host, _, port = address.rpartition(":")
    with ExitStack() as held, daemon.client() as client:
        for number in range(40):
            one = held.enter_context(socket.create_connection((host, int(port))))
            one.sendall((b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /met")[number % 3])
        before = scrape(address).value("qied_jobs_total", outcome="succeeded")
        assert client.edit(picture, "calm", **SMALL).bytes
        assert scrape(address).value("qied_jobs_total", outcome="succeeded") == before + 1
        wait_until(lambda: ready(address)[0] == 200)


def test_a_daemon_stops_in_order_while_somebody_scrapes(daemon_process, tmp_path):
    daemon = daemon_process(tmp_path / "home")
    host, _, port = with_figures(daemon).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as one:
        one.sendall(b"GET /met")
        assert daemon.stop() == 0
        with suppress(ConnectionResetError):
            assert one.recv(1) == b""


def test_a_scrape_is_what_prometheus_reads(watched):
    _, address = watched
    status, text = get(address, "/metrics")
    assert status == 200
    names = {family.name for family in text_string_to_metric_families(text)}
    assert len(names) == text.count("# TYPE ") and all(name.startswith("qied") for name in names)
    assert "_created" not in text

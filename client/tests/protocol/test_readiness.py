"""Whether a daemon is ready, from its status report, and what of that everybody may hear."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qied_client.protocol import messages as m
from qied_client.protocol.readiness import REASONS, Code, Readiness, of, readiness

TROUBLE = "/data/model cannot be read. Mend it."


def report(*states: str, trouble: str = "", **fields: bool) -> m.StatusReport:
    rows = tuple(m.WorkerRow(f"worker-{n}", state, "", 0, 0, 0, 0, 0, 0, trouble) for n, state in enumerate(states))
    return replace(m.StatusReport(1, "m", "fp8", 0, 0, 0, 0, 0, 0, 0, False, rows, (), ()), **fields)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (report("ready"), "ready"),
        (report("lost", "ready", trouble=TROUBLE), "ready"),
        (report("ready", trouble=TROUBLE), "ready"),
        (report(), "loading"),
        (report("starting"), "loading"),
        (report("unloaded", "starting"), "loading"),
        (report("unloaded", "unloaded"), "unloaded"),
        (report("lost", "starting"), "restarting"),
        (report("lost", trouble=TROUBLE), "trouble"),
        (report("ready", paused=True), "paused"),
        (report("ready", finishing=True), "stopping"),
        (report("ready", draining=True, paused=True), "stopping"),
    ],
)
def test_the_state_of_the_queue_and_of_the_workers(found: m.StatusReport, code: Code) -> None:
    assert readiness(found).code == code
    assert readiness(found).ready is (code == "ready")
    assert readiness(found).status == (200 if code == "ready" else 503)


def test_the_trouble_is_told_as_it_is_but_not_to_everybody() -> None:
    found = readiness(report("lost", trouble=TROUBLE))
    assert found.full() == {"ready": False, "code": "trouble", "reason": TROUBLE}
    assert found.public() == {"ready": False, "code": "trouble", "reason": REASONS["trouble"]}


@pytest.mark.parametrize("code", REASONS)
def test_every_code_has_a_sentence(code: Code) -> None:
    assert of(code) == Readiness(code, REASONS[code])
    assert REASONS[code].endswith(".")

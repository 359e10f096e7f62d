"""Python and packages."""

from __future__ import annotations

import pytest
import zmq

from qied.doctor.findings import Status


@pytest.mark.parametrize(
    ("version", "status"), [("3.10.14", Status.ERROR), ("3.11.0", Status.OK), ("3.14.0", Status.OK)]
)
def test_python_has_a_floor(facts, machine, ask, version, status):
    assert ask("python.version", facts(machine(os={"python": version}))).status is status


@pytest.mark.parametrize(
    ("name", "old"),
    [("diffusers", "0.36.0"), ("transformers", "4.57.1"), ("safetensors", "0.4.5"), ("pyzmq", "25.1.2")],
)
def test_each_package_has_a_floor(facts, machine, ask, name, old):
    assert ask(f"package.{name}", facts()).status is Status.OK
    found = ask(f"package.{name}", facts(machine(packages={name: old})))
    assert (found.status, old in found.message) == (Status.ERROR, True)
    missing = ask(f"package.{name}", facts(machine(packages={name: None})))
    assert (missing.status, "pip install" in missing.remedy) == (Status.ERROR, True)


def test_a_package_that_a_recorded_snapshot_does_not_tell_of_is_skipped(facts, machine, ask):
    told = machine()
    silent = told.model_copy(update={"packages": {}})
    assert ask("package.pyzmq", facts(silent, this_machine=False)).status is Status.SKIPPED
    assert ask("package.pyzmq", facts(silent)).status is Status.ERROR


def test_a_libzmq_without_curve_is_an_error(facts, ask, monkeypatch):
    assert ask("zmq.curve", facts()).status is Status.OK
    monkeypatch.setattr(zmq, "has", lambda what: False)
    assert ask("zmq.curve", facts()).status is Status.ERROR

"""Checks of Python and the packages that qied stands on."""

from __future__ import annotations

from collections.abc import Callable

import zmq
from qied_client.installing import pip_install

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped
from qied.hardware.host import NATIVE_WINDOWS, REMEDY, SAID
from qied.planning.choosing.candidates import at_least

_PYTHON = "3.11"


def daemon(facts: Facts) -> Verdict:
    """The daemon runs on this operating system."""
    system = facts.snapshot.os
    if system.system == NATIVE_WINDOWS:
        return error(SAID, REMEDY)
    return ok(f"{system.system} {system.release}.")


def python(facts: Facts) -> Verdict:
    """Python is new enough."""
    have = facts.snapshot.os.python
    if at_least(have, _PYTHON):
        return ok(f"Python {have}.")
    return error(f"Python {have} is older than {_PYTHON}.", f"Install Python {_PYTHON} or newer, then qied in it.")


def curve(facts: Facts) -> Verdict:
    """The ZeroMQ here can encrypt."""
    if zmq.has("curve"):
        return ok(f"libzmq {zmq.zmq_version()} with CURVE.")
    return error(
        f"libzmq {zmq.zmq_version()} is built without CURVE, so no daemon starts with it.",
        f"Install the wheel of pyzmq: {pip_install('--force-reinstall', '--only-binary', ':all:', 'pyzmq')}",
    )


def package(name: str, floor: str) -> Callable[[Facts], Verdict]:
    """A check that a package is there in a version of at least ``floor``."""

    def ask(facts: Facts) -> Verdict:
        if name not in facts.snapshot.packages and not facts.this_machine:
            return skipped(f"The snapshot says nothing about {name}.")
        have = facts.snapshot.packages.get(name)
        install = pip_install("-U", f"{name}>={floor}", here=facts.this_machine)
        if have is None:
            return error(f"{name} is not installed.", install)
        if not at_least(have, floor):
            return error(f"{name} {have} is older than {floor}.", install)
        return ok(f"{name} {have}.")

    return ask


CHECKS = (
    Check("system.daemon", "Nothing can be served here.", daemon),
    Check("python.version", "qied uses features that older versions lack.", python),
    Check(
        "package.diffusers",
        "Versions before 0.37 silently drop zero_cond_t, which 2511 needs: pictures come out wrong.",
        package("diffusers", "0.37"),
    ),
    Check(
        "package.transformers",
        "The text encoder's classes and key names are those of version 5.",
        package("transformers", "5.0"),
    ),
    Check("package.safetensors", "It reads the weights.", package("safetensors", "0.5")),
    Check("package.pyzmq", "Daemon and clients talk through it.", package("pyzmq", "26.2")),
    Check("zmq.curve", "Every connection is encrypted; nothing is served without.", curve, local=True),
)

"""Child processes that answer one question on standard output, within a time limit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress


class NoAnswer(Exception):
    """The child died, failed or did not answer in time; the text says which."""


def command(module: str, *arguments: str) -> list[str]:
    """How a module of qied is run. Its current folder is not searched for imports."""
    return [sys.executable, "-P", "-m", module, *arguments]


def ask_child(module: str, *arguments: str, environ: Mapping[str, str], limit_s: float) -> str:
    """Run a module and return its output; raises NoAnswer."""
    try:
        done = subprocess.run(
            command(module, *arguments),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=dict(environ),
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {limit_s:g} s") from None
    except OSError as error:
        raise NoAnswer(f"it could not be started: {error}") from None
    if done.returncode != 0:
        raise NoAnswer(ending(done.returncode, done.stderr))
    return done.stdout.decode("utf-8", "replace")


def ending(code: int, said: bytes = b"") -> str:
    """How a process ended, with the last line that it wrote on standard error."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    how = f"the process died with {_signal(-code)}" if code < 0 else f"the process ended with status {code}"
    return f"{how}: {lines[-1][:400]}" if lines else how


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"

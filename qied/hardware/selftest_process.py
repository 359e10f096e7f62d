"""Runs a self-test's child process, and starts it again after the trial that it died or hung in."""

from __future__ import annotations

import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from qied.hardware.children import command, ending
from qied.hardware.snapshot import Trial
from qied.hardware.trial_lines import FinishedTrial, Line, Ready, Started, parse_line
from qied.progress import OnProgress

CHILD = "qied.engine.selftest"
_LAST_WORDS_BYTES = 4096
_KILLS = tuple(-getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGINT") if hasattr(signal, name))
"""Ends that come from outside: from a person, or from the kernel for lack of memory."""


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that the child may take until torch and the card answer, for one trial, and for everything."""

    start_s: float = 90.0
    trial_s: float = 20.0
    all_s: float = 150.0


@dataclass
class Findings:
    """How each trial came out, or in ``failure`` why torch or the card does not even start.

    ``lasting`` is False where another run may say more: after a time limit, a lack of memory, a kill from outside.
    """

    results: dict[str, FinishedTrial] = field(default_factory=dict)
    failure: str | None = None
    lasting: bool = True


def run_trials(suite: str, environ: Mapping[str, str], limits: TimeLimits, on_trial: OnProgress) -> Findings:
    """Run the suite named ``module:function`` in child processes with this environment.

    A trial in which the child dies or hangs is not ok and says so; a new child runs the rest.
    """
    return _Run(suite, environ, limits, on_trial).findings()


class _Silence(Exception):
    """No further line will come from this child; ``lasting`` is False where another run may go better."""

    def __init__(self, reason: str, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting


class _Run:
    """One run of a suite, over as many children as it takes."""

    def __init__(self, suite: str, environ: Mapping[str, str], limits: TimeLimits, on_trial: OnProgress) -> None:
        self._suite = suite
        self._environ = environ
        self._limits = limits
        self._on_trial = on_trial
        self._deadline = time.monotonic() + limits.all_s
        self._found = Findings()
        self._missing: list[str] | None = None
        self._running: str | None = None

    def findings(self) -> Findings:
        """Start children until no trial is missing."""
        while self._missing is None or self._missing:
            left = self._missing and len(self._missing)
            with _child(self._suite, self._environ, tuple(self._found.results)) as child:
                silence = self._listen(child)
            self._note(silence)
            if self._missing is None:
                self._found.failure = str(silence)
                break
            if self._missing and self._time_left() <= 0:
                for name in tuple(self._missing):
                    self._finish(_failed(name, f"not run: the self-test took longer than {self._limits.all_s:g} s"))
            elif len(self._missing) == left:
                self._found.failure = f"a new process runs no trial: {silence}"
                break
        return self._found

    def _listen(self, child: _Child) -> _Silence:
        """Take down what a child says until it says no more."""
        ready = False
        while True:
            try:
                line = child.next_line(min(self._limits.trial_s if ready else self._limits.start_s, self._time_left()))
            except _Silence as silence:
                return silence
            if isinstance(line, Ready):
                ready, self._running = True, None
                self._missing = list(line.trials)
            elif isinstance(line, Started):
                self._running = line.name
                done = len(self._found.results)
                self._on_trial(line.name, done, done + len(self._missing or ()))
            else:
                self._finish(line)

    def _note(self, silence: _Silence) -> None:
        """The trial that ran when the child fell silent is the one that failed."""
        if self._running is not None:
            self._finish(_failed(self._running, str(silence)))
        if self._missing is None or self._missing or not silence.lasting:
            self._found.lasting = self._found.lasting and silence.lasting

    def _finish(self, line: FinishedTrial) -> None:
        self._running = None
        self._found.results[line.name] = line
        if self._missing is not None and line.name in self._missing:
            self._missing.remove(line.name)
        if "out of memory" in (line.trial.error or "").lower():
            self._found.lasting = False

    def _time_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


class _Child:
    """A running child; its lines are read by a thread, so that waiting for one can have a limit."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="self-test", daemon=True)
        self._reader.start()

    def next_line(self, limit_s: float) -> Line:
        """Wait for a line; raises _Silence."""
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            raise _Silence(f"no answer within {limit_s:.3g} s", lasting=False) from None
        if line is None:
            code = self._process.wait()
            raise _Silence(ending(code, self._last_words()), lasting=code not in _KILLS)
        return line

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if (line := parse_line(text)) is not None:
                self._lines.put(line)
        self._lines.put(None)

    def _last_words(self) -> bytes:
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - _LAST_WORDS_BYTES))
        return self._errors.read()


@contextmanager
def _child(suite: str, environ: Mapping[str, str], skip: Sequence[str]) -> Iterator[_Child]:
    """The process holds standard input open: it leaves when this one does, even if this one is killed."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(CHILD, "run", suite, *skip),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(environ),
        )
        child = _Child(process, errors)
        try:
            yield child
        finally:
            child.stop()


def _failed(name: str, reason: str) -> FinishedTrial:
    return FinishedTrial(name=name, trial=Trial(ok=False, error=reason))

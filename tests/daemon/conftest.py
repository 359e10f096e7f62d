"""A real daemon in a process of its own, for tests that talk to it as its users do."""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client import AsyncClient, Client

_START_S = 90.0


class DaemonProcess:
    """``qied serve`` as a child process; its log lines are kept, and can be waited for."""

    def __init__(self, home: Path, *, engine: str, environ: dict[str, str]) -> None:
        self.home = home
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "QIED_WORKER_ENGINE": engine,
            "QIED_HOME": str(home),
            **environ,
        }
        self.log: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    @property
    def key(self) -> Path:
        """The local client's key file."""
        return self.home / "local.key.json"

    def start(self) -> DaemonProcess:
        """Start and wait until it is ready."""
        self.start_unready()
        self.wait_for("ready")
        return self

    def start_unready(self) -> None:
        """Start without waiting."""
        self._lines = queue.SimpleQueue()
        command = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--listen", "tcp://127.0.0.1:*"]
        self.process = subprocess.Popen(
            [*command, "--log-format", "json"], env=self._environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        threading.Thread(target=self._read, args=(self.process, self._lines), daemon=True).start()

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for a log line with this event and these fields; lines are looked at once."""
        while True:
            line = self._lines.get(timeout=_START_S)
            assert line is not None, f"the daemon ended without saying {event!r}; its log: {self.log[-8:]}"
            if line.get("event") == event and all(line.get(key) == value for key, value in fields.items()):
                return line

    @property
    def worker_pid(self) -> int:
        """Process id of the worker that was started last."""
        return next(line["pid"] for line in reversed(self.log) if line.get("event") == "worker started")

    def client(self, **options: Any) -> Client:
        """A client with the local key."""
        return Client(self.key, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """An asyncio client with the local key."""
        return AsyncClient(self.key, **options)

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the daemon's end; returns its exit status."""
        assert self.process is not None
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def _read(self, process: subprocess.Popen[bytes], lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        assert process.stderr is not None
        for raw in process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": "not json", "text": raw.decode(errors="replace")}
            self.log.append(line)
            lines.put(line)
        process.stderr.close()
        lines.put(None)


StartDaemon = Callable[..., DaemonProcess]


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start daemons; each is stopped at the end of the test."""
    started: list[DaemonProcess] = []

    def start(home: Path | None = None, *, engine: str = "plain_engine:load", **environ: str) -> DaemonProcess:
        daemon = DaemonProcess(home or tmp_path / "home", engine=engine, environ=environ)
        started.append(daemon)
        return daemon.start()

    yield start
    for daemon in started:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.wait()


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> DaemonProcess:
    """A daemon with the plain engine."""
    return start_daemon()


def _png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def picture() -> bytes:
    """A small PNG."""
    return _png(64, 48, (200, 30, 40))


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    """Make a PNG of one colour."""
    return _png

"""A real daemon in a process of its own, and how much memory its front takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from qied_client.credentials import LOCAL_FILE

IDLE_ENGINE = "idle_engine:load"
MODEL_ENGINE = "qied.engine.serving:load"
_SAMPLE_S = 0.02


class Daemon:
    """``qied serve`` with a model and an engine of choice; ready inside its ``with`` block.

    ``settings`` are further variables of its environment.
    """

    def __init__(
        self, home: Path, engine: str, model: str = "builtin", settings: Mapping[str, str] | None = None
    ) -> None:
        self._home = home
        self.planned: dict[str, Any] = {}
        """What its log says of the plan."""
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
            "QIED_HOME": str(home),
            "QIED_WORKER_ENGINE": engine,
            "QIED_LIMITS_JOBS_WAITING_PER_USER": "1000",
            "QIED_DAEMON_LOG_LEVEL": "info",
            **(settings or {}),
        }
        command = [sys.executable, "-m", "qied", "serve", "--model", model, "--listen", "tcp://127.0.0.1:*"]
        self._process = subprocess.Popen(
            [*command, "--log-format", "json"], env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._ready = threading.Event()
        self._last_lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def key(self) -> Path:
        """The local client's key file."""
        return self._home / LOCAL_FILE

    @property
    def front(self) -> psutil.Process:
        """The front's process; the worker is another one."""
        return psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        self._ready.wait()
        if self._process.poll() is not None:
            raise SystemExit("The daemon did not start:\n" + "\n".join(self._last_lines))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._last_lines = [*self._last_lines[-9:], line]
            if '"planned"' in line or '"ready"' in line:
                self._note(json.loads(line))
        self._process.stderr.close()
        self._process.wait()
        self._ready.set()

    def _note(self, news: dict[str, Any]) -> None:
        if news.get("event") == "planned":
            self.planned = news
        elif news.get("event") == "ready":
            self._ready.set()


class MemoryWatch:
    """Samples the resident bytes of a process inside a ``with`` block; ``peak`` is the most that was seen."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            if self._done.wait(_SAMPLE_S):
                return

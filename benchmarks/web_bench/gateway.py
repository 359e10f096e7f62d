"""A real gateway in a process of its own, its users, and what it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from qied_client.credentials import read_credential
from qied_client.web.tokens import TokenStore

from qied.server.access.keys import KeyStore, write_credential


class Gateway:
    """``qied-client web`` on a free port; it listens inside its ``with`` block."""

    def __init__(self, home: Path, key: Path) -> None:
        self._home, self._key = home, key
        self._tokens = home / "tokens.json"
        command = [sys.executable, "-m", "qied_client.web", "127.0.0.1:0", "--key", str(key)]
        self._process = subprocess.Popen(
            [*command, "--tokens", str(self._tokens)], stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("web  "):
            raise SystemExit(f"The gateway did not start: {line}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    @property
    def process(self) -> psutil.Process:
        """Its process."""
        return psutil.Process(self._process.pid)

    def memory(self, name: str) -> int:
        """Bytes of a line of ``/proc/PID/status``, such as VmRSS, or VmHWM, the most since its start (Linux)."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"This system does not tell {name}.")

    def enrol(self, user: str) -> tuple[str, Path]:
        """A new user: their token, and their key file for a connection without the gateway."""
        path = self._home / f"{user}.key.json"
        write_credential(path, KeyStore(self._home).add(user, read_credential(self._key).endpoint))
        return TokenStore(self._tokens).add(user)[0], path

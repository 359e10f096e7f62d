"""A gateway in a process of its own before a real daemon, as users of the web gateway meet it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from qied_client.web.tokens import TokenStore

from tests.daemon.conftest import DaemonProcess, daemon_process, make_picture, picture, shared_daemon, start_daemon

__all__ = ["daemon_process", "make_picture", "picture", "shared_daemon", "start_daemon"]


class GatewayProcess:
    """``qied-client web`` on a free port. ``first`` is Python that its process runs before."""

    def __init__(self, key: Path, tokens: Path, *options: str, first: str = "", stderr: Path | None = None) -> None:
        self.tokens = TokenStore(tokens)
        program = f"{first}\nfrom qied_client.cli.main import main; main()"
        command = [sys.executable, "-c", program, "web", "127.0.0.1:0", "--key", str(key), "--tokens", str(tokens)]
        with stderr.open("wb") if stderr else nullcontext() as errors:
            self.process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("web  "), line
        self.url = line.split()[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def gateway(shared_daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for all tests that leave it as it was."""
    running = GatewayProcess(shared_daemon.key, tmp_path_factory.mktemp("gateway") / "tokens.json")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(shared_daemon: DaemonProcess, gateway: GatewayProcess) -> str:
    """A token of an enrolled user."""
    shared_daemon.enrol("web-lin")
    return gateway.tokens.add("web-lin")[0]

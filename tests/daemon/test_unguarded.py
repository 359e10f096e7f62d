"""A daemon on a system that does not count what connections send says so where others can connect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVENT = "connections that send an endless message are not closed on this system"


@pytest.fixture
def start(daemon_process, tmp_path):
    """Start a daemon whose Python has no TCP_INFO, as that of macOS."""
    (tmp_path / "sitecustomize.py").write_text("import socket\ndel socket.TCP_INFO\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), str(HERE), os.environ.get("PYTHONPATH")]))
    daemon = daemon_process(tmp_path / "home", PYTHONPATH=path)

    def begin(listen):
        daemon.listen = listen
        return daemon.start()

    yield begin
    daemon.kill()


def test_a_daemon_that_others_reach_warns_once(start):
    daemon = start("tcp://0.0.0.0:*")
    (warned,) = [line for line in daemon.log if line["event"] == EVENT]
    assert warned["level"] == "warning"
    assert "ssh -L" in warned["remedy"]


def test_a_daemon_of_this_machine_alone_does_not(start):
    assert EVENT not in {line["event"] for line in start("tcp://127.0.0.1:*").log}

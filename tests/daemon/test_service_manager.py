"""Under a service manager: what it hears of a real daemon, what SIGHUP does, and what an early Ctrl-C does not."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from qied_client import Client
from qied_client.credentials import read_credential

from qied.server.access.keys import KeyStore


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(60)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def wait_for(receiver, line):
    """Messages until one has this line, that one included."""
    messages = []
    while not messages or line not in messages[-1]:
        messages.append(receiver.recv(4096).decode().split("\n"))
    return messages


def test_the_manager_hears_of_the_whole_life_of_a_daemon(start_daemon, manager):
    daemon = start_daemon(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="600000")
    before = wait_for(manager, "READY=1")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before[0])
    assert any(line.startswith("STATUS=serving builtin at tcp://") for line in before[-1])
    assert not any("READY=1" in message for message in before[:-1])
    wait_for(manager, "WATCHDOG=1")
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(psutil.Process(daemon.worker_pid).environ())
    daemon.signal(signal.SIGHUP)
    reloading = wait_for(manager, "RELOADING=1")[-1]
    assert any(line.startswith("MONOTONIC_USEC=") for line in reloading)
    wait_for(manager, "READY=1")
    assert daemon.stop() == 0
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in wait_for(manager, "STOPPING=1")[-1])


def test_a_hangup_reloads_the_log_level_and_names_what_waits(daemon_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qied.toml").write_text("[limits]\njobs_waiting = 50\n")
    daemon = daemon_process(tmp_path / "home").start()
    try:
        (tmp_path / "qied.toml").write_text("[limits]\njobs_waiting = 60\n[daemon]\nlog_level = 'warning'\n")
        daemon.signal(signal.SIGHUP)
        waiting = daemon.wait_for("some changed settings count from the next start on")
        assert waiting["keys"] == ["limits.jobs_waiting"]
        (tmp_path / "qied.toml").write_text("[limits]\njobs_waitng = 60\n")
        daemon.signal(signal.SIGHUP)
        wrong = daemon.wait_for("the configuration is wrong, keeping the old one")
        assert "limits.jobs_waitng is not a known key" in wrong["reason"]
        with daemon.client(daemon.enrol("ann")) as client:
            assert client.status().workers
    finally:
        assert daemon.stop() == 0
    assert "stopped" not in {line["event"] for line in daemon.log}  # it is below the level that was reloaded


def test_a_terminal_that_is_closed_does_not_end_the_daemon(tmp_path):
    terminal, end = pty.openpty()
    home = tmp_path / "home"
    command = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--listen", "tcp://127.0.0.1:*"]
    process = subprocess.Popen(
        [*command, "--home", str(home), "--log-format", "json"], stdin=subprocess.DEVNULL, stdout=end, stderr=end
    )
    os.close(end)
    try:
        seen = b""
        while b'"event": "ready"' not in seen:
            seen += os.read(terminal, 65536)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        KeyStore(home).add("ann", read_credential(home / "local.key.json").endpoint)
        for _ in range(2):
            with Client(home / "local.key.json") as client:
                assert client.status().workers
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("imported", ["typer", "qied.server.daemon"])
def test_an_early_interrupt_ends_without_traceback_and_leaves_nothing(tmp_path, imported):
    command = [sys.executable, "-X", "importtime", "-m", "qied", "serve", "--model", "builtin"]
    process = subprocess.Popen(
        [*command, "--home", str(tmp_path / "home")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(f" {imported}"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in rest and "Error" not in rest
    assert not (tmp_path / "home").exists()

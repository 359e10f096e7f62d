"""``qied serve`` in a terminal of 80 columns: a short start, lines that can be pasted, and one line for each edit."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qied_client import Client
from qied_client.errors import JobFailed, JobPoisoned

from qied.builtin.scene import read_scene

COLUMNS = 80
WAIT_S = 90
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BAR = re.compile(r"(starting the worker|loading ).*")
SECRET = "a-word-that-only-the-prompt-has"


class Terminal:
    """``qied serve`` with the plain engine in a pseudo-terminal, and what it has shown so far."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self.home = folder / "home"
        self.shown = ""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "COLUMNS", "NO_COLOR"))}
        self.environ = {
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
            "QIED_WORKER_ENGINE": "plain_engine:load",
            "QIED_HOME": str(self.home),
            "TERM": "xterm-256color",
            **environ,
        }
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        command = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--listen", "tcp://127.0.0.1:*"]
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=folder, env=self.environ, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            with self._grown:
                self.shown += data.decode(errors="replace")
                self._grown.notify_all()

    @property
    def lines(self) -> list[str]:
        """What stays on the screen, line by line: without colours, and without the bar while it moves."""
        text = ESCAPES.sub("", self.shown).replace("\r\n", "\n")
        lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [line for line in lines if line and not BAR.match(line)]

    def wait_for(self, found: Callable[[str], object]) -> None:
        """Wait until the screen shows something."""
        until = time.monotonic() + WAIT_S
        with self._grown:
            while not found(ESCAPES.sub("", self.shown)):
                assert time.monotonic() < until and self.process.poll() is None, self.shown
                self._grown.wait(1)

    def ready(self) -> Terminal:
        """Wait for the daemon."""
        self.wait_for(lambda text: "Ctrl-C here stops" in text and text.rstrip(" ").endswith("\n\r\n"))
        return self

    def client(self) -> Client:
        """A client with the local key."""
        return Client(self.home / "local.key.json")

    def end(self) -> int:
        """Press Ctrl-C and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        self._reader.join()
        os.close(self._master)
        return status


Serve = Callable[..., Terminal]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start daemons in terminals."""
    started: list[Terminal] = []

    def start(*arguments: str, **environ: str) -> Terminal:
        started.append(Terminal(tmp_path, arguments, environ))
        return started[-1].ready()

    yield start
    for terminal in started:
        if terminal.process.returncode is None:
            terminal.end()


def test_a_start_an_edit_and_a_failure_are_a_few_lines_of_the_terminals_width(serve: Serve) -> None:
    terminal = serve()
    ready = next(place for place, line in enumerate(terminal.lines) if line.startswith("ready"))
    assert ready <= 10
    with terminal.client() as client:
        done = client.submit(read_scene().path, SECRET, steps=3)
        done.result()
        failing = client.submit(read_scene().path, f"{SECRET} fail", steps=3)
        with pytest.raises(JobFailed):
            failing.result()
        terminal.wait_for(lambda text: failing.id in text)
    assert terminal.end() == 0
    (line,) = [line for line in terminal.lines if done.id in line]
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  local  {done.id}  256x256  3 steps  [\d.]+ m?s  FP32", line)
    place = next(place for place, line in enumerate(terminal.lines) if failing.id in line)
    assert any(line.startswith("          do  ") for line in terminal.lines[place : place + 6])
    log = next(place for place, line in enumerate(terminal.lines) if done.id in line)
    assert max(map(len, [*terminal.lines[:ready], *terminal.lines[log:]])) <= COLUMNS
    assert SECRET not in terminal.shown
    logs = list((terminal.home / "log").glob("*.jsonl"))
    assert logs and all(SECRET not in log.read_text() for log in logs)
    assert any(f'"job": "{done.id}"' in log.read_text() for log in logs)


def test_the_example_at_ready_works_when_it_is_pasted_elsewhere(serve: Serve, tmp_path: Path) -> None:
    terminal = serve()
    place = next(number for number, line in enumerate(terminal.lines) if line.split()[:1] == ["first"])
    first, edit = terminal.lines[place], next(line for line in terminal.lines[place:] if line.split()[:1] == ["edit"])
    assert read_scene().prompt in edit
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {key: value for key, value in terminal.environ.items() if not key.startswith("QIED_")}
    script = "\n".join(line.strip().partition(" ")[2].strip() for line in (first, edit))
    subprocess.run(["bash", "-e", "-c", script], cwd=elsewhere, env=environ, check=True)
    assert (elsewhere / "out.png").stat().st_size > 0
    assert any("only this machine can connect" in line for line in terminal.lines)


def test_without_colours_everything_is_said_in_words(serve: Serve) -> None:
    terminal = serve(NO_COLOR="1")
    with terminal.client() as client:
        job = client.submit(read_scene().path, "fail", steps=1)
        with pytest.raises(JobFailed):
            job.result()
        terminal.wait_for(lambda text: job.id in text)
    terminal.end()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.shown)
    assert "failed" in terminal.shown


def test_a_worker_that_dies_is_told_with_what_becomes_of_its_edits(serve: Serve, tmp_path: Path) -> None:
    terminal = serve()
    gate = tmp_path / "gate"
    with terminal.client() as client:
        job = client.submit(read_scene().path, f"gate={gate} crash", steps=1)
        gate.touch()
        terminal.wait_for(lambda text: "waits again" in text and "given up" in text)
        with pytest.raises(JobPoisoned):
            job.result()
    terminal.end()
    assert any(re.search(r"worker-0 ended \(.*\) and is started again", line) for line in terminal.lines)
    assert any("worker-0 is ready again" in line for line in terminal.lines)


def test_debug_shows_everything(serve: Serve) -> None:
    terminal = serve("--log-level", "debug")
    terminal.end()
    text = " ".join(" ".join(terminal.lines).split())
    assert "worker started" in text and "pid" in text and "part workers" in text and "planned" in text

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgpack
import pytest
import zmq
from PIL import Image
from qied_client import AsyncClient, Client
from qied_client.credentials import Credential, read_credential
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.transfers import hash_of
from zmq.utils.monitor import recv_monitor_message

from qied.server.access.keys import KeyStore, write_credential

_START_S = 90.0


class RawClient:
    """A client without manners: sends any frames over the real encrypted socket, and waits for no permission."""

    def __init__(self, credential: Credential) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.reconnect_ivl = 1
        self._socket.curve_serverkey = credential.server_key.encode()
        self._socket.curve_publickey = credential.public_key.encode()
        self._socket.curve_secretkey = credential.secret_key.encode()
        self._monitor = self._socket.get_monitor_socket()
        self._socket.connect(credential.endpoint)
        self._ids = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send_frames(self, *frames: bytes | memoryview) -> None:
        """Send one message of these frames, whatever they are."""
        self._socket.send_multipart(frames, copy=False)

    def send_header(self, kind: bytes, header: object) -> None:
        """Send a header as msgpack, unchecked."""
        self.send_frames(kind, msgpack.packb(header))

    def send(self, message: m.Message) -> None:
        """Send a message of the protocol, its values unchecked."""
        self.send_frames(*encode(message))

    def receive(self, timeout: float = 20.0) -> m.Message:
        """Wait for the next message."""
        assert self._socket.poll(round(timeout * 1000)), "the daemon does not answer"
        return decode(self._socket.recv_multipart(), FROM_DAEMON)

    def has_news(self) -> bool:
        """Whether a message has come."""
        return bool(self._socket.poll(0))

    def next_id(self) -> int:
        """An id for a request."""
        self._ids += 1
        return self._ids

    def ask(self, make: Callable[[int], m.Message]) -> Any:
        """Send a request and return its answer; other messages are skipped."""
        message = make(self.next_id())
        self.send(message)
        return self.answer(self._ids)

    def answer(self, identifier: int | None) -> Any:
        """Wait for the answer to a request; the one without a number is an error's."""
        while True:
            message = self.receive()
            if getattr(message, "re", -1) == identifier:
                return message

    def news(self, kind: type[m.Message]) -> Any:
        """Wait for the next message of a kind."""
        while not isinstance(message := self.receive(), kind):
            pass
        return message

    def hello(self) -> Self:
        """Greet, and see that it is answered."""
        assert isinstance(self.ask(lambda n: m.Hello(n, limits.MIN_VERSION, limits.VERSION, "raw")), m.Welcome)
        return self

    def upload(self, data: bytes) -> str:
        """Bring a blob to the daemon, chunk by chunk; returns its hash."""
        answer = self.ask(lambda n: m.Put(n, hash_of(data), len(data)))
        transfer = self._ids
        if isinstance(answer, m.Want):
            for offset in range(0, len(data), limits.CHUNK_BYTES):
                self.send(m.Chunk(transfer, offset, len(data), data[offset : offset + limits.CHUNK_BYTES]))
                self.news(m.More)
            answer = self.answer(transfer)
        assert isinstance(answer, m.Stored), answer
        return answer.hash

    def ping_ms(self) -> float:
        """Milliseconds until a PING is answered."""
        begun = time.perf_counter()
        self.send(m.Ping(self.next_id()))
        self.news(m.Pong)
        return (time.perf_counter() - begun) * 1000

    def wait_for_socket(self, event: int) -> None:
        """Wait until the socket has seen this event of its connection."""
        while True:
            assert self._monitor.poll(20_000), "the connection stays as it is"
            if recv_monitor_message(self._monitor)["event"] == event:
                # A monitor that nobody reads fills up within a second of attempts to connect; then all stands still.
                self._socket.disable_monitor()
                return


class DaemonProcess:
    """``qied serve`` as a child process; its log lines are kept, and can be waited for."""

    model = "builtin"
    """What ``--model`` names."""

    def __init__(self, home: Path, *, engine: str, environ: dict[str, str]) -> None:
        self.home = home
        self.listen = "tcp://127.0.0.1:*"
        self._environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
            "QIED_WORKER_ENGINE": engine,
            "QIED_HOME": str(home),
            **environ,
        }
        self.log: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.watcher: list[str] = []
        self.arguments: list[str] = []
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    @property
    def key(self) -> Path:
        """The local client's key file."""
        return self.home / "local.key.json"

    def enrol(self, user: str) -> Path:
        """Let another user in; returns the key file."""
        path = self.home.parent / f"{user}.key.json"
        write_credential(path, KeyStore(self.home).add(user, read_credential(self.key).endpoint))
        return path

    def start(self) -> DaemonProcess:
        """Start and wait until it is ready."""
        self.start_unready()
        self.wait_for("ready")
        return self

    def start_unready(self) -> None:
        """Start without waiting."""
        self._lines = queue.SimpleQueue()
        command = [sys.executable, "-m", "qied", "serve", "--model", self.model, "--listen", self.listen]
        self.process = subprocess.Popen(
            [*self.watcher, *command, "--log-format", "json", *self.arguments],
            env=self._environ,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
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

    def client(self, key: Path | Credential | None = None, **options: Any) -> Client:
        """A client with the local key, unless another is given."""
        return Client(key or self.key, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """An asyncio client with the local key."""
        return AsyncClient(self.key, **options)

    def raw(self, key: Path | None = None) -> RawClient:
        """A client that sends what the real one refuses to; with the local key unless another is given."""
        return RawClient(read_credential(key or self.key))

    @property
    def pid(self) -> int:
        """Process id of the front."""
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether the process that was started last is alive."""
        return self.process is not None and self.process.poll() is None

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


@pytest.fixture(scope="session")
def daemon_process() -> Callable[..., DaemonProcess]:
    """Make a daemon that is not started yet."""
    return lambda home, engine="plain_engine:load", **environ: DaemonProcess(home, engine=engine, environ=environ)


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


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with the plain engine for all tests of a module."""
    daemon = DaemonProcess(tmp_path_factory.mktemp("shared") / "home", engine="plain_engine:load", environ={}).start()
    yield daemon
    if daemon.runs:
        daemon.kill()


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

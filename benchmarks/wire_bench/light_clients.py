"""Many connected clients in one process: raw sockets that only ping, so that client code does not dominate."""

from __future__ import annotations

import io
import time
from collections import deque
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path

import zmq
from PIL import Image
from qied_client.credentials import Credential, read_credential
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.request import EditRequest
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.transfers import hash_of

from wire_bench.child import questions

_ANSWER_MS = 20_000


@dataclass(frozen=True)
class Window:
    """What to do for ``seconds``: each client pings every ``ping_s``, one submits a job every ``submit_s``."""

    seconds: float
    ping_s: float
    submit_s: float


@dataclass
class Samples:
    """Round trips in milliseconds."""

    heartbeats: list[float] = field(default_factory=list)
    submits: list[float] = field(default_factory=list)


class LightClients:
    """``count`` connections with one key. The first of them submits, too."""

    def __init__(self, credential: Credential, count: int) -> None:
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._sockets = [self._connect(credential) for _ in range(count)]
        for socket in self._sockets:
            socket.send_multipart(encode(m.Hello(1, limits.MIN_VERSION, limits.VERSION, "benchmark")))
        for socket in self._sockets:
            self._answer(socket, m.Welcome)
        self._submitter = self._sockets[0]
        self._blob = self._upload_picture()
        self._jobs = 0

    def close(self) -> None:
        """Close all connections."""
        self._context.destroy(linger=0)

    def measure(self, window: Window) -> Samples:
        """Ping and submit for a while; pings of the clients are spread evenly over the interval."""
        samples = Samples()
        started = time.perf_counter()
        gap = window.ping_s / len(self._sockets)
        turns = deque(self._sockets)
        pings = 0
        next_submit = started
        submitted: float | None = None
        pinged: dict[zmq.Socket[bytes], float] = {}
        while (now := time.perf_counter()) < started + window.seconds:
            if now >= started + pings * gap:
                pings += 1
                turns.rotate(-1)
                if turns[0] not in pinged:
                    pinged[turns[0]] = time.perf_counter()
                    turns[0].send_multipart(encode(m.Ping(pings)))
            if now >= next_submit and submitted is None:
                next_submit = now + window.submit_s
                frames = encode(self._next_job())
                submitted = time.perf_counter()
                self._submitter.send_multipart(frames)
            due = min(started + pings * gap, next_submit if submitted is None else float("inf"))
            for socket, _ in self._poller.poll(max(0, ceil((due - time.perf_counter()) * 1000))):
                kind = socket.recv_multipart()[0]
                arrived = time.perf_counter()
                if kind == m.Pong.TYPE:
                    samples.heartbeats.append((arrived - pinged.pop(socket)) * 1000)
                elif kind == m.Accepted.TYPE and submitted is not None:
                    samples.submits.append((arrived - submitted) * 1000)
                    submitted = None
                else:
                    raise SystemExit(f"unexpected message {kind!r}")
        self._drain(len(pinged) + (submitted is not None))
        return samples

    def _drain(self, answers: int) -> None:
        """Take the answers that are still to come, so that the next window begins without them."""
        while answers:
            for socket, _ in self._poller.poll(_ANSWER_MS):
                socket.recv_multipart()
                answers -= 1

    def _connect(self, credential: Credential) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.curve_serverkey = credential.server_key.encode()
        socket.curve_publickey = credential.public_key.encode()
        socket.curve_secretkey = credential.secret_key.encode()
        socket.connect(credential.endpoint)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _answer(self, socket: zmq.Socket[bytes], kind: type[m.Message]) -> m.Message:
        if not socket.poll(_ANSWER_MS):
            raise SystemExit(f"no {kind.__name__} within {_ANSWER_MS} ms")
        message = decode(socket.recv_multipart(), FROM_DAEMON)
        if not isinstance(message, kind):
            raise SystemExit(f"{kind.__name__} was expected, and {message} came")
        return message

    def _upload_picture(self) -> str:
        target = io.BytesIO()
        Image.new("RGB", (64, 64), (200, 30, 40)).save(target, "PNG")
        data = target.getvalue()
        blob = hash_of(data)
        for frames, answer in (
            (encode(m.Put(2, blob, len(data))), m.Want),
            (encode(m.Chunk(2, 0, len(data), data)), m.More),
        ):
            self._submitter.send_multipart(frames)
            self._answer(self._submitter, answer)
        self._answer(self._submitter, m.Stored)
        return blob

    def _next_job(self) -> m.Submit:
        self._jobs += 1
        request = EditRequest((self._blob,), "nothing", self._jobs, steps=1, width=64, height=64, previews=False)
        return m.Submit(2 + self._jobs, f"job-{self._jobs}", request, request.payload_hash())


def serve_light_clients(pipe: Connection, key: Path, count: int) -> None:
    """In a child process: connect, then answer each Window with its Samples."""
    clients = LightClients(read_credential(key), count)
    for window in questions(pipe):
        pipe.send(clients.measure(window))
    clients.close()

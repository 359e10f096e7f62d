"""A small daemon in a thread of the test process: real sockets, CURVE and ZAP, and an echo in place of an engine."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
import zmq
import zmq.asyncio
from hypothesis import settings
from PIL import Image
from qied_client.errors import QiedError, UnknownBlob, UnknownJob, UnknownSession
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.roles import FROM_CLIENT
from zmq.utils import z85

Reply = list[m.Message] | None
_WAIT_S = 20.0

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


class SmallSession:
    """Turns of one session, one a minute from a day in June 1970 on. Its lists come in pages of two."""

    PAGE = 2
    OPENED_MS = 166 * 86_400_000

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.head = 0
        self.turns: list[m.TurnInfo] = []

    def add(self, submit: m.Submit) -> int:
        """The turn of a job, which the same job again only finds; it ends at once."""
        for turn in self.turns:
            if turn.job == submit.job:
                return turn.turn
        number = len(self.turns) + 1
        base = self.head if submit.base is None else submit.base
        asked = (submit.job, "succeeded", submit.request.prompt, submit.request.seed)
        accepted = self.OPENED_MS + 60_000 * number
        self.turns.append(m.TurnInfo(number, base, *asked, accepted, accepted + 1_500, self.source))
        self.head = number
        return number

    def state(self, identifier: int) -> m.SessionState:
        rows = tuple(m.Turn(turn.turn, turn.base, turn.job, turn.state) for turn in self.turns)
        return m.SessionState(identifier, self.name, self.source, self.head, rows)

    def page(self, message: m.ListTurns) -> m.TurnList:
        older = [turn for turn in self.turns if message.before is None or turn.turn < message.before]
        rows = tuple(older[-self.PAGE :])
        return m.TurnList(message.id, self.name, self.head, rows, more=len(older) > self.PAGE)

    def info(self) -> m.SessionInfo:
        last = self.turns[-1] if self.turns else None
        used = last.accepted_ms if last else self.OPENED_MS
        prompt = last.prompt if last else ""
        return m.SessionInfo(self.name, self.source, self.head, len(self.turns), self.OPENED_MS, used, prompt)


class SmallDaemon:
    """Accepts blobs and jobs; the result of a job is its first picture. ``before`` may answer in its place."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key.json"
        self.server_public, self._server_secret = zmq.curve_keypair()
        self.public, self._secret = zmq.curve_keypair()
        self.enrolled = {self.public}
        # A silence that no machine is slow enough for: who wants one makes it short.
        self.welcome = m.Welcome(0, 1, "small", "ann", "echo", (), 100, 60_000, limits.CHUNK_BYTES, 4, 2**26, 3)
        self.before: Callable[[m.Message], Reply] = lambda message: None
        self.listen = "tcp://127.0.0.1:*"
        self.raw: list[bytes] | None = None
        self.reading = True
        self.heard: queue.SimpleQueue[m.Message] = queue.SimpleQueue()
        self.blobs: dict[str, bytes] = {}
        self.jobs: dict[str, m.Submit] = {}
        self.sessions: dict[str, SmallSession] = {}
        self.thumbnail = b""
        self._uploads: dict[int, tuple[m.Put, bytearray]] = {}
        self._thread: threading.Thread | None = None

    # Life

    def start(self) -> SmallDaemon:
        """Listen at a free port and write the key file that leads there."""
        self.reading = True
        bound: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(bound,), name="small daemon")
        self._thread.start()
        self.address = bound.get(timeout=_WAIT_S)
        self.write_key(self.address)
        return self

    def stop(self) -> None:
        """Vanish without a goodbye."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def write_key(self, address: str, **changed: str) -> None:
        content = {
            "version": 1,
            "user": "ann",
            "endpoint": address,
            "server_key": self.server_public.decode(),
            "public_key": self.public.decode(),
            "secret_key": self._secret.decode(),
            **changed,
        }
        part = self.key.with_suffix(".part")
        part.write_text(json.dumps(content))
        part.chmod(0o600)
        part.replace(self.key)

    def wait_for(self, kind: type[m.Message] | tuple[type[m.Message], ...]) -> m.Message:
        """Wait until a message of this kind, or one of these, came; those before it are passed over."""
        while True:
            message = self.heard.get(timeout=_WAIT_S)
            if isinstance(message, kind):
                return message

    def send(self, message: m.Message) -> None:
        """Send to the connection that was heard last."""
        self._loop.call_soon_threadsafe(self._send, message)

    def _run(self, bound: queue.SimpleQueue[str]) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(bound))

    async def _serve(self, bound: queue.SimpleQueue[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        context = zmq.asyncio.Context()
        zap = context.socket(zmq.REP)
        zap.bind("inproc://zeromq.zap.01")
        self._router = router = context.socket(zmq.ROUTER)
        router.curve_server = True
        router.curve_secretkey = self._server_secret
        router.zap_domain = b"client"
        router.linger = zap.linger = 0
        router.ipv6 = "[" in self.listen
        router.bind(self.listen)
        tasks = [asyncio.create_task(self._authenticate(zap)), asyncio.create_task(self._listen(router))]
        bound.put(cast(bytes, router.last_endpoint).decode())
        await asyncio.wait([*tasks, asyncio.create_task(self._stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        router.close()
        zap.close()
        context.term()

    async def _authenticate(self, zap: zmq.asyncio.Socket) -> None:
        while True:
            frames = await zap.recv_multipart()
            known = z85.encode(frames[6]) in self.enrolled
            await zap.send_multipart(
                [b"1.0", frames[1], b"200" if known else b"400", b"", b"ann" if known else b"", b""]
            )

    async def _listen(self, router: zmq.asyncio.Socket) -> None:
        while True:
            frames = await router.recv_multipart()
            self._route = frames[0]
            message = decode(frames[1:], FROM_CLIENT)
            self.heard.put(message)
            for answer in self._answers(message):
                self._send(answer)
            if self.raw is not None and self.reading:
                router.send_multipart([self._route, *self.raw])
            if not self.reading:
                await asyncio.Event().wait()

    def _send(self, message: m.Message) -> None:
        self._router.send_multipart([self._route, *encode(message)])

    # Answers

    def _answers(self, message: m.Message) -> list[m.Message]:
        instead = self.before(message)
        if instead is not None:
            return instead
        try:
            return self.answer(message)
        except QiedError as error:
            return [m.Failure.of(error, getattr(message, "id", None))]

    def answer(self, message: Any) -> list[m.Message]:
        match message:
            case m.Hello():
                return [replace(self.welcome, re=message.id)]
            case m.Ping():
                return [m.Pong(message.nonce)]
            case m.Status():
                return [m.StatusReport(message.id, "echo", "bf16", 5, 1, 0, 0, 0, 0, 2**30, False, (), (), ())]
            case m.Put() | m.Chunk() | m.Get():
                return self._move(message)
            case m.Quote():
                return [m.Quoted(message.id, True, 64, 64, 4, 4, "bf16", 1, 1, 0, 64, 64)]
            case m.Submit() | m.Resume() | m.Cancel() | m.Release() | m.Fetch():
                return self._do(message)
            case m.Open() | m.History() | m.Undo() | m.Redo() | m.Close() | m.ListTurns():
                return self._session(message)
            case m.ListSessions():
                names = sorted(name for name in self.sessions if name > (message.after or ""))
                rows = tuple(self.sessions[name].info() for name in names[: SmallSession.PAGE])
                return [m.SessionList(message.id, rows, more=len(names) > len(rows))]
            case _:
                return []

    def _move(self, message: m.Put | m.Chunk | m.Get) -> list[m.Message]:
        match message:
            case m.Put():
                if message.hash in self.blobs:
                    return [m.Stored(message.id, message.hash)]
                self._uploads[message.id] = (message, bytearray())
                return [m.Want(message.id, 0, 4)]
            case m.Chunk():
                put, data = self._uploads[message.transfer]
                data += message.data
                if len(data) < put.size:
                    return [m.More(put.id, 1)]
                self.blobs[put.hash] = bytes(data)
                return [m.Stored(put.id, put.hash)]
            case m.Get():
                if message.hash not in self.blobs:
                    raise UnknownBlob("There is no such blob.")
                blob = self.blobs[message.hash]
                size = limits.CHUNK_BYTES
                parts = range(message.offset, len(blob), size)
                return [m.Chunk(message.id, part, len(blob), blob[part : part + size]) for part in parts]

    def _do(self, message: m.Submit | m.Resume | m.Cancel | m.Release | m.Fetch) -> list[m.Message]:
        if isinstance(message, m.Submit):
            known = message.job in self.jobs
            self.jobs[message.job] = message
            turn = self.sessions[message.session].add(message) if message.session else None
            return [m.Accepted(message.id, message.job, known, 64, 64, 4, turn=turn)]
        if message.job not in self.jobs:
            raise UnknownJob(f"You have no job {message.job!r}.", "It was never submitted.")
        match message:
            case m.Resume():
                return [m.Resumed(message.id, message.job, "succeeded"), *self._news(self.jobs[message.job])]
            case m.Cancel():
                return [m.Cancelling(message.id, message.job, "finished", "succeeded")]
            case m.Release():
                return [m.Released(message.id, message.job)]
            case m.Fetch():
                request = self.jobs[message.job].request
                asked = (request.prompt, request.seed)
                info = m.JobInfo(message.job, 1, "succeeded", *asked, 4, 64, 64, "bf16", "", 60_000)
                return [m.Fetched(message.id, info, request.prompt, thumbnail=self.thumbnail)]

    def _news(self, submit: m.Submit) -> list[m.Message]:
        request = submit.request
        blob = request.images[0] if request.images else self.sessions[submit.session or ""].source
        return [
            m.Event(submit.job, 1, "queued", place=1, starts_in_ms=0),
            m.Event(submit.job, 2, "step", phase="denoise", step=1, steps=1),
            m.Event(submit.job, 3, "preview", step=1, steps=1, preview=b"jpeg"),
            m.Result(
                submit.job,
                4,
                "succeeded",
                blob=blob,
                size=len(self.blobs[blob]),
                media_type="image/png",
                width=64,
                height=64,
                seed=request.seed,
                timings={"held_ms": 12.5},
            ),
        ]

    def _session(self, message: m.Open | m.History | m.Undo | m.Redo | m.Close | m.ListTurns) -> list[m.Message]:
        if isinstance(message, m.Open):
            self.sessions.setdefault(message.session, SmallSession(message.session, message.image))
        if isinstance(message, m.Close):
            self.sessions.pop(message.session, None)
            return [m.Closed(message.id, message.session)]
        if message.session not in self.sessions:
            raise UnknownSession("There is no such session.")
        session = self.sessions[message.session]
        match message:
            case m.ListTurns():
                return [session.page(message)]
            case m.Undo() if session.head == message.turn:
                session.head = session.turns[message.turn - 1].base
            case m.Redo() if session.head == session.turns[message.turn - 1].base:
                session.head = message.turn
        return [session.state(message.id)]


@pytest.fixture
def absent_daemon(tmp_path: Path) -> Iterator[SmallDaemon]:
    """A daemon that is not started."""
    daemon = SmallDaemon(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(absent_daemon: SmallDaemon) -> SmallDaemon:
    """A daemon that listens."""
    return absent_daemon.start()


@pytest.fixture
def picture() -> bytes:
    """A small PNG file."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def free_address() -> str:
    """An address where nothing listens."""
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.bind("tcp://127.0.0.1:*")
    address: str = cast(bytes, socket.last_endpoint).decode()
    socket.close(linger=0)
    context.term()
    return address


class WindowsLoop(asyncio.SelectorEventLoop):
    """As the loop that asyncio makes on Windows, a proactor: it has none of the methods that watch sockets."""

    add_reader = asyncio.AbstractEventLoop.add_reader
    remove_reader = asyncio.AbstractEventLoop.remove_reader
    add_writer = asyncio.AbstractEventLoop.add_writer
    remove_writer = asyncio.AbstractEventLoop.remove_writer


@pytest.fixture
def windows_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new loop is one of Windows, pyzmq takes its own way for Windows, and tornado, its way out, is not there."""
    monkeypatch.setattr(asyncio, "ProactorEventLoop", WindowsLoop, raising=False)
    monkeypatch.setattr(zmq.asyncio, "_get_selector", zmq.asyncio._get_selector_windows)
    monkeypatch.setitem(sys.modules, "tornado.platform.asyncio", None)
    for place in (asyncio, asyncio.events):
        monkeypatch.setattr(place, "new_event_loop", WindowsLoop)


class Interrupter:
    """Sends SIGINT before the instruction with this number, counted from where ``during`` begins to call.

    With a ``file``, only the instructions of that file count.
    """

    def __init__(self, at: int, file: str = "") -> None:
        self.at = at
        self.file = file
        self.seen = 0

    @property
    def sent(self) -> bool:
        return self.seen > self.at

    def during(self, call: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return call()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_name == "_remove":  # of weakref, which Python calls as it frees: errors in it are lost
            return None
        frame.f_trace_opcodes = frame.f_code.co_filename == (self.file or frame.f_code.co_filename)
        frame.f_trace_lines = False
        if event == "opcode":
            self.seen += 1
            if self.seen == self.at + 1:
                signal.raise_signal(signal.SIGINT)
        return None if self.sent else self._trace


@pytest.fixture
def interrupter() -> type[Interrupter]:
    """For tests of Ctrl-C at each instruction; see ``Interrupter``."""
    return Interrupter

"""Figures and readiness over plain HTTP, from threads of its own: what a scraper does cannot hold the front up.

At most ``_CONNECTIONS`` are served at a time. One that takes longer than ``_CONNECTION_S`` in all is ended, and when
all places are taken the oldest is, so that neither slow readers nor many of them keep others out.
"""

from __future__ import annotations

import io
import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from qied_client.protocol.readiness import Readiness, of

from qied.server.ports.listening import cannot_listen

_CONNECTIONS: Final = 8
_CONNECTION_S: Final = 15.0
_SILENCE_S: Final = 5.0
"""Seconds that one read or write may wait."""
_LOOK_S: Final = 0.5
_ROOM_S: Final = 1.0
"""Seconds to wait for the place of a connection that was ended."""
_UNAVAILABLE: Final = "503 Service Unavailable"
_JSON: Final = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class ScrapePort:
    """Serves from the moment that it is made: a port in use is told before anything starts.

    Until ``attach`` there are no figures, and the daemon is not ready.
    """

    def __init__(self, address: str) -> None:
        """Listen at ``HOST:PORT``, port * for any free one; raises ConfigError."""
        host, _, port = address.rpartition(":")
        self._name = host
        self._app = _App()
        try:
            self._server = _Server(host.strip("[]"), 0 if port == "*" else int(port), self._app)
        except OSError as error:
            raise cannot_listen(f"tcp://{address}", error.errno, str(error), "daemon.metrics") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), name="scrapes", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT with the real port."""
        return f"{self._name}:{self._server.server_port}"

    def attach(self, registry: CollectorRegistry, look: Callable[[], Readiness]) -> None:
        """Show a front. ``look`` is called in other threads; it raises TimeoutError if the front does not answer."""
        self._app.front = (make_wsgi_app(registry), look)

    def close(self) -> None:
        """End the connections and the thread; blocks, and may be called again."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_older_than(0)


class _App:
    """``/metrics``, ``/health`` and ``/ready``."""

    front: tuple[WSGIApplication, Callable[[], Readiness]] | None = None
    """The figures, and the question whether the daemon is ready."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(part="scrapes")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path not in ("/metrics", "/health", "/ready"):
            said = f"There is only /metrics, /health and /ready here, not {path[:40]!r}."
            return _answer(start_response, "404 Not Found", {"error": said})
        if method not in ("GET", "HEAD"):
            return _answer(start_response, "405 Method Not Allowed", {"error": f"Use GET, not {method[:20]!r}."})
        try:
            answer = self._found(path, environ, start_response)
        except TimeoutError:
            answer = _answer(start_response, _UNAVAILABLE, of("unreachable").full())
        except Exception:  # noqa: BLE001 - wsgiref would write it to standard error, between lines of JSON
            self._log.exception("a scrape failed because of a bug")
            answer = _answer(start_response, "500 Internal Server Error", {"error": "A bug; see the daemon's log."})
        return [] if method == "HEAD" else answer

    def _found(self, path: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.front is None:
            if path == "/health":
                return _answer(start_response, "200 OK", {"status": "starting"})
            return _answer(start_response, _UNAVAILABLE, of("loading").full())
        figures, look = self.front
        if path == "/metrics":
            return figures({**environ, "REQUEST_METHOD": "GET"}, start_response)
        found = look()
        if path == "/health":
            return _answer(start_response, "200 OK", {"status": "ok"})
        return _answer(start_response, "200 OK" if found.ready else _UNAVAILABLE, found.full())


def _answer(start_response: StartResponse, status: str, content: dict[str, Any]) -> Iterable[bytes]:
    start_response(status, [*_JSON])  # wsgiref adds the length to the list itself
    return [json.dumps(content).encode() + b"\n"]


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come every few seconds, and say nothing to people."""

    def get_stderr(self) -> io.StringIO:
        """Nowhere: what is left to say there is that a scraper does not read."""
        return io.StringIO()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_address = sys.platform != "win32"  # where the option would let two programs have the same port

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        self.set_app(app)
        try:
            self.server_bind()
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    def server_bind(self) -> None:
        # Not that of HTTPServer, which looks the host's name up in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._end_oldest()
            if not self._places.acquire(timeout=_ROOM_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        self.end_older_than(_CONNECTION_S)

    def end_older_than(self, seconds: float) -> None:
        """End connections that have been there for so long; their threads notice at once."""
        now = time.monotonic()
        with self._lock:
            for request, since in self._since.items():
                if now - since >= seconds:
                    _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that left, or was ended; what fails inside is answered and logged by wsgiref's handler."""
        structlog.get_logger(part="scrapes").debug("a scrape ended early", reason=repr(sys.exception()))

    def _end_oldest(self) -> None:
        with self._lock:
            if self._since:
                _end(min(self._since, key=self._since.__getitem__))

    def _forget(self, request: Any) -> None:
        with self._lock:
            found = self._since.pop(request, None)
        if found is not None:
            self._places.release()


def _end(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)

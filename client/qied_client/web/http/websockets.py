"""WebSockets within their limits: who does not read is given up, and cannot have answers kept by asking for more."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from qied_client.web.http.connections import ReaderWatch


class PunctualWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which ends a connection whose client does not read, also one that asks for answers."""

    _watch: ReaderWatch | None = None

    def handle_ping(self) -> None:
        """Answer a ping; who reads nothing gets no answers to pings, which would wait here without bound."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch = ReaderWatch(self.transport)

    def resume_writing(self) -> None:
        self._stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """A client that answers no ping is gone: what it has not read is not waited for."""
        super().keepalive_timeout()
        self.transport.abort()

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

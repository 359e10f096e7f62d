"""A connection to a gateway without manners: it sends any bytes, and says what becomes of the connection."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

WAIT_S = 30.0


class Raw:
    """One TCP connection; ``source`` is the address that it comes from."""

    def __init__(self, url: str, *, source: str = "", buffer: int = 0) -> None:
        address = urlsplit(url)
        self.host = address.netloc
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_S)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((address.hostname, address.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; a connection that is closed already takes nothing."""
        with suppress(OSError):
            self.socket.sendall(data)

    def head(self, line: str, **headers: object) -> None:
        """Send the head of a request."""
        lines = [f"{line} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def rest(self) -> bytes:
        """Everything until the gateway closes the connection; a reset ends it, too."""
        found = b""
        with suppress(ConnectionError):
            while piece := self.socket.recv(1 << 16):
                found += piece
        return found

    def until(self, what: bytes) -> bytes:
        """What comes until ``what`` is among it."""
        found = b""
        while what not in found:
            piece = self.socket.recv(1 << 16)
            assert piece, f"the connection ended after {found[-500:]!r}"
            found += piece
        return found

    def drip(self, data: bytes) -> bytes:
        """Send a byte at a time, over and over, until the gateway closes the connection; what it said."""
        self.socket.settimeout(0.05)
        said, number = b"", 0
        while True:
            try:
                self.socket.sendall(data[number % len(data) :][:1])
                number += 1
                piece = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionError:
                return said
            if not piece:
                return said
            said += piece

    @property
    def status(self) -> int:
        """The status of the answer that comes."""
        return int(self.until(b"\r\n").split()[1])

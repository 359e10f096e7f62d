"""HTTP as bare as it can be, so that what is measured is the gateway and not a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

BOUNDARY = "qied-benchmark"


def form(fields: dict[str, str], picture: bytes) -> bytes:
    """A multipart form with one picture."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    head = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    joined = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in [*parts, head + picture])
    return joined + f"--{BOUNDARY}--\r\n".encode()


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """A whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
    if body:
        lines += [f"Content-Type: multipart/form-data; boundary={BOUNDARY}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def open_stream(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request whose answer is a stream; returns it behind its head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=16 << 20)
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise SystemExit(f"The gateway answers {head!r} {await reader.read(1000)!r}")
    return reader, writer


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body of an answer in the chunks in which it was sent."""
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]

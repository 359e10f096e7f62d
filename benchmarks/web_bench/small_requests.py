"""Small requests over a kept connection: how others get on."""

from __future__ import annotations

import asyncio
import time

from web_bench.http import request

_PAUSE_S = 0.02


async def look(port: int, until: asyncio.Event) -> list[float]:
    """Ask ``GET /health`` again and again; milliseconds of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    while not until.is_set():
        began = time.monotonic()
        writer.write(request("GET", "/health", "none"))
        await reader.readuntil(b'"ok"}')
        times.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(_PAUSE_S)
    writer.close()
    return times

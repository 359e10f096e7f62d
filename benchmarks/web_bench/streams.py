"""Edits as streams of pictures through OpenAI's API, so many at any time, in one process; and how others get on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from wire_bench.child import questions

from web_bench.http import chunks, form, open_stream, request
from web_bench.small_requests import look


@dataclass
class Streamed:
    """Edits that were completed, pictures on the way, and milliseconds of small requests beside them."""

    completed: int = 0
    partial: int = 0
    health_ms: list[float] = field(default_factory=list)


class Streams:
    """``count`` callers, each of which begins the next edit when the last is there."""

    def __init__(self, port: int, tokens: list[str], count: int, steps: int, picture: bytes) -> None:
        self._port, self._tokens, self._count = port, tokens, count
        fields = {"prompt": "nothing", "stream": "true", "partial_images": "2", "steps": str(steps), "size": "512x512"}
        self._body = form(fields, picture)

    async def run(self, seconds: float) -> Streamed:
        """Work for a while; edits that have begun then are finished and counted."""
        done, until = Streamed(), time.monotonic() + seconds
        callers = [self._call(self._tokens[n % len(self._tokens)], until, done) for n in range(self._count)]
        ended = asyncio.Event()
        looking = asyncio.create_task(look(self._port, ended))
        await asyncio.gather(*callers)
        ended.set()
        done.health_ms = await looking
        return done

    async def _call(self, token: str, until: float, done: Streamed) -> None:
        while time.monotonic() < until:
            reader, writer = await open_stream(self._port, request("POST", "/v1/images/edits", token, self._body))
            async for chunk in chunks(reader):
                done.completed += chunk.startswith(b"event: image_edit.completed")
                done.partial += chunk.startswith(b"event: image_edit.partial_image")
                if chunk.startswith(b"event: error"):
                    raise SystemExit(f"An edit failed: {chunk!r}")
            writer.close()


def serve_streams(pipe: Connection, port: int, tokens: list[str], count: int, steps: int, picture: bytes) -> None:
    """In a child process: work for as many seconds as are asked for, then answer Streamed."""
    streams = Streams(port, tokens, count, steps, picture)
    for seconds in questions(pipe):
        pipe.send(asyncio.run(streams.run(seconds)))

"""Edits of a picture as large as they may be, one after the other; and how others get on meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from wire_bench.child import questions

from web_bench.http import form, open_stream, request
from web_bench.small_requests import look


@dataclass
class Uploaded:
    """Seconds of each edit, and milliseconds of small requests beside them."""

    seconds: list[float] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)


async def upload(port: int, token: str, picture: bytes, count: int) -> Uploaded:
    """Make ``count`` edits of the picture, each as a file of its own."""
    done, ended = Uploaded(), asyncio.Event()
    fields = {"prompt": "nothing", "steps": "1", "size": "512x512"}
    # What stands behind a picture's end is not looked at. All are made first: making one holds up this process's loop.
    bodies = [form(fields, picture + number.to_bytes(8, "big")) for number in range(count)]
    requests = [request("POST", "/v1/images/edits", token, body) for body in bodies]
    looking = asyncio.create_task(look(port, ended))
    for sent in requests:
        began = time.monotonic()
        _, writer = await open_stream(port, sent)
        done.seconds.append(time.monotonic() - began)
        writer.close()
    ended.set()
    done.health_ms = await looking
    return done


def serve_uploads(pipe: Connection, port: int, token: str, picture: bytes) -> None:
    """In a child process: make as many edits as are asked for, then answer Uploaded."""
    for count in questions(pipe):
        pipe.send(asyncio.run(upload(port, token, picture, count)))

"""Clients that upload large pictures, with the client's own connection, in a process of their own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from qied_client.connection import Connection
from qied_client.credentials import Credential, read_credential
from qied_client.net.driver import Driver
from qied_client.net.transport import Endpoint
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.roles import FROM_DAEMON
from qied_client.transfers import hash_of

from wire_bench.child import questions


@dataclass(frozen=True)
class Uploads:
    """Uploads one after the other on each connection, until ``seconds`` are over or ``count`` are done on each."""

    seconds: float = float("inf")
    count: int = 2**31


@dataclass(frozen=True)
class Uploaded:
    """One upload, in seconds: hashing at the client, then from PUT to STORED."""

    hash_s: float
    wire_s: float


def open_driver(credential: Credential, on_push: Callable[[m.Message], None] = lambda message: None) -> Driver:
    """A connection of the client, without the conveniences on top."""
    endpoint = Endpoint(credential.endpoint, credential.server_key, credential.public_key, credential.secret_key)
    connection = Connection(
        lambda n: m.Hello(n, limits.MIN_VERSION, limits.VERSION, "benchmark"), m.Welcome, FROM_DAEMON
    )
    return Driver(connection, lambda: endpoint, on_push, lambda error: None, 15.0)


class Uploader:
    """One connection that uploads pictures of ``size`` bytes, each different from all before."""

    def __init__(self, credential: Credential, size: int) -> None:
        self._driver = open_driver(credential)
        self._data = bytearray(os.urandom(size))
        self._number = 0

    async def connect(self) -> None:
        """Connect."""
        await self._driver.start()

    async def upload(self, work: Uploads) -> list[Uploaded]:
        """Do the work; an upload that has begun is finished."""
        done: list[Uploaded] = []
        until = time.perf_counter() + work.seconds
        while len(done) < work.count and time.perf_counter() < until:
            done.append(await self._once())
        return done

    async def _once(self) -> Uploaded:
        self._number += 1
        self._data[:8] = self._number.to_bytes(8, "little")
        started = time.perf_counter()
        blob = await asyncio.to_thread(hash_of, memoryview(self._data))
        hashed = time.perf_counter()
        await self._driver.upload(blob, memoryview(self._data))
        return Uploaded(hashed - started, time.perf_counter() - hashed)

    async def close(self) -> None:
        """Close the connection."""
        await self._driver.close()


def serve_uploaders(pipe: Pipe, key: Path, count: int, size: int) -> None:
    """In a child process: connect ``count`` uploaders, then answer Uploads with all that were Uploaded."""
    asyncio.run(_serve(pipe, read_credential(key), count, size))


async def _serve(pipe: Pipe, credential: Credential, count: int, size: int) -> None:
    uploaders = [Uploader(credential, size) for _ in range(count)]
    await asyncio.gather(*(uploader.connect() for uploader in uploaders))
    asked = questions(pipe)
    while (work := await asyncio.to_thread(next, asked, None)) is not None:
        done = await asyncio.gather(*(uploader.upload(work) for uploader in uploaders))
        pipe.send([upload for uploads in done for upload in uploads])
    await asyncio.gather(*(uploader.close() for uploader in uploaders))

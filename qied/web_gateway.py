"""The web gateway of ``qied serve --web``: the client's gateway in a process of its own, which is kept running."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from qied_client.credentials import LOCAL_FILE

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_STEADY_S: Final = 60.0
"""Seconds after which an end counts as the first again."""
_SAID_BYTES: Final = 500
"""The end of what it wrote before it ended, which is logged with that."""
_KEPT_BYTES: Final = 16 * 1024
_QUIET_S: Final = 60.0
"""Seconds between two bugs that are logged: who finds one may ask for it a thousand times."""
_FRAMES: Final = 4
_ERROR: Final = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception))(?::|$)")
"""The last line of a traceback."""
_ENDING_S: Final = 15.0
"""Seconds that the gateway gets to finish its answers."""


class WebGateway:
    """Starts the gateway with the owner's key, reads where it listens, and starts it again whenever it ends.

    A gateway that is gone loses nothing: jobs are the daemon's. ``options`` are those of ``qied-client web``.
    """

    def __init__(self, home: Path, options: Sequence[str]) -> None:
        self._log = structlog.get_logger(part="web")
        key = str(home / LOCAL_FILE)
        self._quiet_until = -_QUIET_S
        self._said = b""
        self._command = [sys.executable, "-m", "qied_client.web", *options, "--key", key, "--until-eof"]

    async def run(self) -> None:
        """Keep the gateway running until cancelled; then it ends as well."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status, said = await self._once()
            failures = 0 if loop.time() - began > _STEADY_S else failures + 1
            pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            self._log.error("the web gateway ended, starting it again", status=status, reason=said, in_s=pause)
            await asyncio.sleep(pause)

    async def _once(self) -> tuple[int, str]:
        """Run it to its end; returns its status, and the last of what it said about that."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the daemon, which ends it in order
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._said = b""
        # Both to their ends: one that writes much while it ends waits for its reader, and asyncio for its pipes.
        reading = [asyncio.create_task(each) for each in (self._read(process.stdout), self._hear(process.stderr))]
        try:
            await asyncio.wait(reading)  # cancelled, they go on
            status = await process.wait()
            return status, " ".join(self._said[-_SAID_BYTES:].decode(errors="replace").split())
        finally:
            process.stdin.close()  # it ends with its input
            with suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_S):
                    await process.wait()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _hear(self, stderr: asyncio.StreamReader) -> None:
        while part := await stderr.read(4096):
            self._said = (self._said + part)[-_KEPT_BYTES:]  # hostile requests make it write; that takes no memory
            self._tell_of_a_bug(self._said)

    def _tell_of_a_bug(self, said: bytes) -> None:
        """Log where the gateway failed by a bug, once in a while, and without texts, which may be a caller's."""
        now = asyncio.get_running_loop().time()
        lines = said.decode(errors="replace").splitlines()
        kind = next((found[1] for line in reversed(lines) if (found := _ERROR.match(line))), None)
        if kind is None or now < self._quiet_until:
            return
        self._quiet_until = now + _QUIET_S
        frames = [" ".join(line.split()) for line in lines if line.startswith("  File ")]
        self._log.error("a request failed by a bug of the web gateway, report it", error=kind, where=frames[-_FRAMES:])

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        async for line in stdout:
            word, _, address = line.decode(errors="replace").strip().partition("  ")
            if word == "web":
                self._log.info("web gateway", address=address)

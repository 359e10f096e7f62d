"""What SIGHUP does: the configuration is read again, and what can change while the daemon runs is applied."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import structlog
from qied_client.errors import QiedError

from qied.config import LoadedConfig, all_keys
from qied.logs import set_level
from qied.service.notify import Notifier

APPLIED = ("daemon.log_level",)
"""Settings that a reload applies, to the front; workers keep theirs."""


class Reloading:
    """Compares each reading of the configuration with the one that the daemon was started with."""

    def __init__(self, started_with: LoadedConfig, read: Callable[[], LoadedConfig]) -> None:
        self._log = structlog.get_logger(part="service")
        self._started_with = started_with
        self._read = read
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def at_each_hangup(self, loop: asyncio.AbstractEventLoop, manager: Notifier, and_then: Callable[[], None]) -> None:
        """From now on reload at each SIGHUP (POSIX), followed by ``and_then``; the files are read off the loop."""

        async def reload() -> None:
            async with self._one_at_a_time:
                manager.reloading()
                await asyncio.to_thread(self.apply)
                and_then()
                manager.ready("reloaded")

        def begin() -> None:
            task = loop.create_task(reload(), name="reload")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(begin))

    def apply(self) -> None:
        """Apply the log level and name what waits for a restart; a wrong configuration changes nothing. Blocking."""
        try:
            loaded = self._read()
        except QiedError as error:
            self._log.error(
                "the configuration is wrong, keeping the old one", reason=error.message, remedy=error.remedy
            )
            return
        level = loaded.config.daemon.log_level
        set_level(level)
        waiting = [
            key for key in all_keys() if key not in APPLIED and loaded.value(key) != self._started_with.value(key)
        ]
        self._log.info("reloaded", log_level=level)
        if waiting:
            self._log.warning("some changed settings count from the next start on", keys=waiting)

"""One connection for each daemon that nodes name, kept between runs.

ComfyUI runs each workflow in an event loop of its own, and its node classes keep no state. So the clients live here, in
a loop in a thread, and any loop waits for what they do.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qied_client import AsyncClient
from qied_client.credentials import login_file
from qied_client.errors import CredentialsMissing

T = TypeVar("T")
Work = Callable[[AsyncClient], Coroutine[Any, Any, T]]

_CLOSING_S = 2.0
"""How long the end of the process waits for connections to be closed."""
_IN_COMFYUI = "\nOr give the path of a key file in a Qied Server node."


@dataclass(frozen=True)
class Server:
    """A daemon, as the node Qied Server names it; the value of the type QIED_SERVER.

    ``key`` is a key file's path, or the name of one in qied's folder for configuration; "" is the key that
    ``qied_client`` finds by itself. ``address`` is used in place of the one in the key, if it is not "".
    """

    key: str = ""
    address: str = ""

    @property
    def key_file(self) -> Path | None:
        """The file of ``key``: ``studio`` is ``studio.key.json`` next to the file that ``qied-client login`` stores."""
        if not self.key:
            return None
        is_name = not self.key.endswith(".json") and Path(self.key).name == self.key
        return login_file(os.environ).with_name(f"{self.key}.key.json") if is_name else Path(self.key).expanduser()


class Connections:
    """Clients by the daemon that they talk to. Any thread may begin work; the clients live in one thread.

    A client that had to give up tries again with the next work, and reads its key file again for that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._clients: dict[Server, AsyncClient] = {}

    def begin(self, server: Server, work: Work[T]) -> Future[T]:
        """Start work with the client of a daemon; cancelling the future cancels it.

        The future raises what the work raises, and UnreachableError and its kinds.
        """
        return asyncio.run_coroutine_threadsafe(self._carry_out(server, work), self._running_loop())

    async def _carry_out(self, server: Server, work: Work[T]) -> T:
        client = self._clients.get(server)
        if client is None:
            client = self._clients[server] = AsyncClient(server.key_file, address=server.address or None)
        try:
            await client.connect()
            return await work(client)
        except CredentialsMissing as error:
            raise CredentialsMissing(error.message, f"{error.remedy}{_IN_COMFYUI}", **error.details) from error

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="qied nodes", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return self._loop

    def close(self) -> None:
        """Close all connections; what is begun afterwards makes new ones. Jobs in the daemons stay."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        closing = asyncio.run_coroutine_threadsafe(self._close_all(), loop)
        with suppress(Exception):  # the process ends, or nobody is there to hear of it
            closing.result(_CLOSING_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSING_S)
        if not loop.is_running():
            loop.close()

    async def _close_all(self) -> None:
        clients = [*self._clients.values()]
        self._clients.clear()
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # work that hears of it just now
            _, slow = await asyncio.wait(left, timeout=_CLOSING_S / 2)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)


CONNECTIONS = Connections()
"""Those of this process."""

"""Questions of the command line for which a ``Client`` has no method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from qied_client.client import Client
from qied_client.errors import VersionMismatch
from qied_client.protocol import messages as m

_SINCE = 2
"""Protocol version that brought the messages asked here."""


def ask(client: Client, make: Callable[[int], m.Message]) -> Any:
    """Ask the daemon and wait for its answer; raises VersionMismatch where it is older than the question."""
    if client.welcome.version < _SINCE:
        raise VersionMismatch("The daemon is older than this command.", "Upgrade qied on its machine.")
    return client._loop.run(client._client._ask(make))


def known_loras(client: Client) -> Iterator[m.LoraInfo]:
    """The daemon's LoRAs by name."""
    after: str | None = None
    while True:
        page: m.LoraList = ask(client, partial(m.ListLoras, after=after))
        yield from page.loras
        if not page.more or not page.loras:
            return
        after = page.loras[-1].name

"""Questions of the command line for which a ``Client`` has no method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from qied_client.client import Client
from qied_client.errors import QiedError, VersionMismatch
from qied_client.protocol import messages as m

_SINCE = 2
"""Protocol version that brought the messages asked here."""


def ask(client: Client, make: Callable[[int], m.Message]) -> Any:
    """Ask the daemon and wait for its answer; raises VersionMismatch where it is older than the question."""
    if client.welcome.version < _SINCE:
        raise VersionMismatch("The daemon is older than this command.", "Upgrade qied on its machine.")
    return client._loop.run(client._client._ask(make))


def say_it_is_here(client: Client, job: str, *, named: bool) -> None:
    """Tell the daemon that a picture is here: it keeps it until the room is needed, and never deletes it for this.

    A daemon of version 1 would delete it, so one whose job was ``named`` by the user, to be asked for again, stays.
    """
    with suppress(QiedError):
        if client.welcome.version >= _SINCE:
            ask(client, lambda n: m.Release(n, job, keep=True))
        elif not named:
            client.release(job)


def known_loras(client: Client) -> Iterator[m.LoraInfo]:
    """The daemon's LoRAs by name."""
    after: str | None = None
    while True:
        page: m.LoraList = ask(client, partial(m.ListLoras, after=after))
        yield from page.loras
        if not page.more or not page.loras:
            return
        after = page.loras[-1].name

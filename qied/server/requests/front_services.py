"""The parts of the front that requests are answered with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from qied_client.protocol import messages as m

from qied.config import Config
from qied.planning.requests.serving import Serving
from qied.server.admission import Admission
from qied.server.blobs.ownership import Ownership
from qied.server.blobs.store import BlobStore
from qied.server.dispatcher import Dispatcher
from qied.server.jobs import JobBook
from qied.server.journal.journal import Journal
from qied.server.ports.peer import Peer
from qied.server.releases import Releases
from qied.server.sessions import SessionBook


@dataclass(frozen=True)
class FrontServices:
    """The services that requests need.

    ``make_room`` removes what a user does not use for so many bytes of a result, ``forget_fetched`` the oldest result
    that the user's client has; both return whether there is more room now. ``metrics`` blocks, and asks the event loop.
    """

    config: Config
    serving: Serving
    admission: Admission
    journal: Journal
    store: BlobStore
    executor: Executor
    jobs: JobBook
    sessions: SessionBook
    ownership: Ownership
    releases: Releases
    dispatcher: Dispatcher
    report: Callable[[int, str, bool], m.StatusReport]
    control: Callable[[Peer, m.Control], Awaitable[m.Message]]
    metrics: Callable[[], bytes]
    finishing: Callable[[], bool]
    forget_scope: Callable[[str], None]
    make_room: Callable[[str, int], Awaitable[bool]]
    forget_fetched: Callable[[str, int], Awaitable[bool]]

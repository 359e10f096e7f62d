"""For who watches the machine: the daemon's figures, and whether it can start edits."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from qied_client.errors import QiedError
from qied_client.net.time_limit import time_limit
from qied_client.protocol.readiness import Readiness, of, readiness
from qied_client.web.access import user_of
from qied_client.web.users import Users

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ANSWER_S: Final = 2.0
"""Seconds that the daemon has to say how it is."""
_FRESH_S: Final = 1.0
"""Seconds for which its answer is given to all who ask, for which no token is needed."""


class Monitoring:
    """``/metrics`` for the owner and ``/ready`` for everybody; the latter is asked as the gateway's ``own_user``."""

    def __init__(self, users: Users, own_user: str) -> None:
        self._users = users
        self._own_user = own_user
        self._asking = asyncio.Lock()
        self._found: tuple[float, Readiness] | None = None

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: the daemon's figures for Prometheus; for the owner."""
        async with self._users.client(user_of(request)) as client:
            return PlainTextResponse(await client.metrics(), headers={"Content-Type": METRICS_TYPE})

    async def ready(self, request: Request) -> Response:
        """GET /ready: whether edits can start, and if not why; without a token, so it names nothing."""
        found = await self._look()
        return JSONResponse(found.public(), found.status)

    async def _look(self) -> Readiness:
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if self._found is None or now - self._found[0] > _FRESH_S:
                self._found = (now, await self._ask())
            return self._found[1]

    async def _ask(self) -> Readiness:
        try:
            async with time_limit(_ANSWER_S), self._users.client(self._own_user) as client:
                return readiness(await client.status())
        except (TimeoutError, QiedError):
            return of("unreachable")

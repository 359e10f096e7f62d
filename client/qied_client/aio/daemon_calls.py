"""What a client asks of the daemon itself: what it serves, how it runs it, what it does, and orders of its owner."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from qied_client.aio.calls import Calls
from qied_client.errors import VersionMismatch
from qied_client.protocol import messages as m

_LISTS: Final = 2
"""Version of the protocol that has lists of jobs."""


class DaemonCalls:
    """The calls of a client that concern none of its edits."""

    _calls: Calls

    async def describe(self) -> m.Description:
        """What this daemon serves: model, precision, presets, the largest result, limits. Raises VersionMismatch."""
        described: m.Description = await self._ask_second_version(m.Describe, "description of what is served")
        return described

    async def plans(self) -> list[dict[str, Any]]:
        """How the daemon's workers run the model: what ``qied plan --json`` prints, for each, the best first.

        Raises NotPermitted with any other key than the daemon's local one, VersionMismatch if the daemon is older.
        """
        ask = partial(m.Describe, plans=True)
        described: m.Description = await self._ask_second_version(ask, "description of what is served")
        plans: list[dict[str, Any]] = json.loads(bytes(described.plans) or b"[]")
        return plans

    async def metrics(self) -> str:
        """The daemon's figures as text for Prometheus; see docs/operating.md.

        Raises NotPermitted with any other key than the daemon's local one, VersionMismatch if the daemon is older.
        """
        answer: m.MetricsText = await self._ask_second_version(m.Metrics, "metrics")
        return bytes(answer.text).decode()

    async def loras(self) -> tuple[m.LoraInfo, ...]:
        """The daemon's LoRAs by the names that ``loras`` takes. Raises VersionMismatch if the daemon is older."""
        found: list[m.LoraInfo] = []
        more = True
        while more:
            after = found[-1].name if found else None
            page: m.LoraList = await self._ask_second_version(partial(m.ListLoras, after=after), "list of LoRAs")
            found += page.loras
            more = page.more and bool(page.loras)
        return tuple(found)

    async def upscalers(self) -> tuple[m.UpscalerInfo, ...]:
        """The daemon's upscaling models by the names that ``upscale`` takes, with their scales.

        Raises VersionMismatch if the daemon is older.
        """
        found: list[m.UpscalerInfo] = []
        more = True
        while more:
            ask = partial(m.ListUpscalers, after=found[-1].name if found else None)
            page: m.UpscalerList = await self._ask_second_version(ask, "list of upscalers")
            found += page.upscalers
            more = page.more and bool(page.upscalers)
        return tuple(found)

    async def status(self, *, everyone: bool = False) -> m.StatusReport:
        """What the daemon is doing; ``everyone``: with the ids of all users' jobs, which only the owner may see."""
        report: m.StatusReport = await self._ask(lambda n: m.Status(n, everyone))
        return report

    async def control(self, action: str) -> m.Controlled:
        """Give the daemon an order of its machine's owner: one of ``messages.CONTROLS``.

        Raises NotPermitted with any other key than the daemon's local one, Busy where jobs are in the way.
        """
        answer: m.Controlled = await self._ask(lambda n: m.Control(n, action))
        return answer

    async def _ask(self, make: Callable[[int], m.Message]) -> Any:
        return await self._calls.ask(make)

    async def _ask_second_version(self, make: Callable[[int], m.Message], what: str) -> Any:
        """Ask what daemons of version 1 do not know; they would take it for an error of the connection."""
        if (await self._calls.start()).version < _LISTS:
            raise VersionMismatch(
                f"This daemon speaks version 1 of the protocol, which has no {what}.", "Update the daemon."
            )
        return await self._calls.ask(make)

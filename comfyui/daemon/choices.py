"""Presets and LoRAs by name, as daemons told them: what the nodes' lists offer. Other names may be used as well."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass

from qied_client import AsyncClient

from .connections import CONNECTIONS, Connections, Server

_SHIPPED = ("preview", "draft", "final")
"""Presets of the models that qied ships profiles for."""


@dataclass(frozen=True)
class Offered:
    """What one daemon offers."""

    presets: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()


_offered: dict[Server, Offered] = {}


def presets() -> list[str]:
    """Names of presets, those of shipped models first; "" is the model's usual settings."""
    return list(dict.fromkeys(["", *_SHIPPED, *(name for each in _offered.values() for name in each.presets)]))


def loras() -> list[str]:
    """Names of LoRAs in alphabetical order; "" is none."""
    return ["", *sorted({name for each in _offered.values() for name in each.loras} - {""})]


def look_up(server: Server, connections: Connections = CONNECTIONS) -> Future[None]:
    """Ask a daemon in the background; a failure is of no interest, since a run tells it."""
    return connections.begin(server, lambda client: remember(server, client))


async def remember(server: Server, client: AsyncClient) -> None:
    """Ask a daemon and keep what it says for the lists of nodes. Raises VersionMismatch if it is older."""
    described, found = await asyncio.gather(client.describe(), client.loras())
    _offered[server] = Offered(
        tuple(each.name for each in described.presets), tuple(each.name for each in found if not each.problem)
    )

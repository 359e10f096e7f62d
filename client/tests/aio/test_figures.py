"""Figures and plans as the client gets them, and what it says of daemons that have none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from qied_client import AsyncClient, Client
from qied_client.errors import VersionMismatch
from qied_client.protocol import messages as m

TEXT = "# HELP qied_things Things.\nqied_things 1.0\n"
PLANS = [{"schema": 1, "precision": "fp8"}]


@pytest.fixture
def modern(daemon: Any) -> Any:
    """The small daemon, with figures and plans."""
    daemon.welcome = replace(daemon.welcome, version=2)
    described = m.Description(0, "echo", "Echo", "", "fp8", 1024, 3, 16, ("png",), (), 0)

    def answer(message: m.Message) -> list[m.Message] | None:
        match message:
            case m.Metrics():
                return [m.MetricsText(message.id, TEXT.encode())]
            case m.Describe():
                plans = json.dumps(PLANS).encode() if message.plans else b""
                return [replace(described, re=message.id, plans=plans)]
        return None

    daemon.before = answer
    return daemon


async def test_figures_are_text_and_plans_are_documents(modern: Any) -> None:
    async with AsyncClient(modern.key) as client:
        assert await client.metrics() == TEXT
        assert await client.plans() == PLANS
        assert (await client.describe()).plans == b""


def test_the_client_that_blocks_has_them_as_well(modern: Any) -> None:
    with Client(modern.key) as client:
        assert (client.metrics(), client.plans()) == (TEXT, PLANS)


async def test_a_daemon_of_version_1_is_not_asked(daemon: Any) -> None:
    daemon.welcome = replace(daemon.welcome, version=1)
    async with AsyncClient(daemon.key) as client:
        for ask in (client.metrics, client.plans):
            with pytest.raises(VersionMismatch):
                await ask()
    heard = []
    while not daemon.heard.empty():
        heard.append(type(daemon.heard.get()))
    assert not {m.Metrics, m.Describe} & set(heard)

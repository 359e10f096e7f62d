"""What graphs may name, as a daemon tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qied_client.errors import VersionMismatch
from qied_client.web.comfyui import info_api, nodes


class Older:
    """A daemon that has no list of upscalers yet."""

    async def describe(self) -> Any:
        return SimpleNamespace(model="builtin")

    async def loras(self) -> Any:
        return (SimpleNamespace(name="ink", problem=""), SimpleNamespace(name="torn", problem="it is truncated"))

    async def upscalers(self) -> Any:
        raise VersionMismatch("This daemon has no list of upscalers.", "Update it.")


async def test_an_older_daemon_tells_all_but_its_upscalers() -> None:
    told = await info_api._of_daemon(Older())  # type: ignore[arg-type]
    assert told[nodes.MODELS] == ["builtin.safetensors"] and told[nodes.LORAS] == ["ink.safetensors"]
    assert told[nodes.UPSCALERS] == []

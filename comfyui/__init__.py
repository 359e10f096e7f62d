"""Nodes for ComfyUI that have pictures edited by a qied daemon; ComfyUI itself needs no card for them."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .daemon.choices import look_up
from .daemon.connections import Server
from .nodes import NODES

WEB_DIRECTORY = "./web"
"""Where the help pages of the nodes are, in ``docs``."""

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


class QiedNodes(ComfyExtension):
    """All nodes of this package."""

    async def on_load(self) -> None:
        """Ask the usual daemon for its presets and LoRAs in the background, which nodes then offer by name."""
        look_up(Server())

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls when it loads the package."""
    return QiedNodes()

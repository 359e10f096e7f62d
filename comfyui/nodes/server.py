"""Qied Server: which daemon other nodes use."""

from __future__ import annotations

from contextlib import suppress

from comfy_api.latest import io
from qied_client import AsyncClient
from qied_client.errors import VersionMismatch

from ..daemon.choices import remember
from ..daemon.connections import Server
from ..daemon.running import ask
from ..host import NodeDisplay
from .inputs import CATEGORY, ServerSocket


class QiedServer(io.ComfyNode):
    """Names a daemon, and sees that it answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedServer",
            display_name="Qied Server",
            category=CATEGORY,
            description="Names the qied daemon that edits pictures, and connects to it. "
            "Without this node, others use the daemon of this machine.",
            inputs=[
                io.String.Input(
                    "key",
                    optional=True,
                    default="",
                    tooltip="Path of a key file on the machine of ComfyUI, or the name of one in qied's folder for "
                    "configuration (studio is studio.key.json). Empty: the key that 'qied-client login' has stored, "
                    "or that of a daemon on this machine.",
                ),
                io.String.Input(
                    "address",
                    optional=True,
                    default="",
                    tooltip="Address of the daemon, such as tcp://studio:7447. Empty: the one in the key file.",
                ),
            ],
            outputs=[
                ServerSocket.Output(display_name="server", tooltip="For the input 'server' of other nodes."),
                io.String.Output(display_name="info", tooltip="Who you are there, and what the daemon serves."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, key: str = "", address: str = "") -> io.NodeOutput:
        server = Server(key.strip(), address.strip())
        display = NodeDisplay(cls.hidden.unique_id)
        display.say("connecting")
        info = await ask(server, lambda client: _greeting(server, client))
        display.say(info)
        return io.NodeOutput(server, info)


async def _greeting(server: Server, client: AsyncClient) -> str:
    with suppress(VersionMismatch):  # an older daemon, which has no lists
        await remember(server, client)
    welcome = await client.connect()
    return f"{welcome.model}, presets {', '.join(welcome.presets)}; {welcome.software}, as {welcome.user}"

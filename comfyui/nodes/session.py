"""Qied Session: several turns on one picture, which the daemon keeps."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from comfy_api.latest import io
from qied_client import AsyncClient, AsyncSession, EditOptions, OnProgress, Result
from qied_client.errors import InvalidRequest, SessionConflict

from ..daemon.connections import Server
from ..daemon.running import run_edits
from .batches import as_image, rows_of
from .inputs import CATEGORY, SessionSocket, server_of
from .inputs import server as server_input

_LATEST = -1
_MOST_TURNS = 2**31 - 1


@dataclass(frozen=True)
class SessionTurn:
    """A session of a daemon at one of its turns; the value of the type QIED_SESSION.

    ``turn`` is the one whose picture the next edit changes: 0 is the first picture, None the latest one then.
    """

    server: Server
    name: str
    turn: int | None

    async def edit(
        self,
        client: AsyncClient,
        prompt: str,
        references: Sequence[bytes],
        options: EditOptions,
        on_progress: OnProgress,
    ) -> Result:
        """Edit the picture of the turn; raises what ``AsyncSession.edit`` does."""
        session = await client.take_up_session(self.name)
        return await session.edit(
            prompt, base=self.turn, references=list(references), on_progress=on_progress, **options
        )

    def after(self, result: Result) -> SessionTurn:
        """The session at the turn that made ``result``."""
        return self if result.turn is None else replace(self, turn=result.turn)


class QiedSession(io.ComfyNode):
    """Opens a session on a picture, or takes it up where it was."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedSession",
            display_name="Qied Session",
            category=CATEGORY,
            description="Several edits in turn on one picture. The daemon keeps the picture of each turn: none is sent "
            "to and fro, and turns can be taken back.",
            inputs=[
                io.Image.Input("image", tooltip="The first picture: turn 0."),
                io.String.Input(
                    "name",
                    optional=True,
                    default="",
                    tooltip="Name of the session; the same name and picture again go on with it. "
                    "Empty: a name made from the picture.",
                ),
                io.Int.Input(
                    "turn",
                    optional=True,
                    default=_LATEST,
                    min=_LATEST,
                    max=_MOST_TURNS,
                    tooltip="The turn whose picture is edited: -1 is the latest one at that time, 0 the first picture.",
                ),
                io.Int.Input(
                    "undo",
                    optional=True,
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Turns to take back first, each time that this runs. Set it to 0 again afterwards.",
                ),
                server_input(),
            ],
            outputs=[
                SessionSocket.Output(display_name="session", tooltip="For the input 'session' of Qied Edit."),
                io.Image.Output(display_name="image", tooltip="The picture of that turn, when this node ran."),
                io.String.Output(display_name="info", tooltip="The session's turns."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, undo: int = 0, turn: int = _LATEST, **_: object) -> object:
        """Run each time where turns are taken back, else only where an input has changed."""
        return time.time_ns() if undo else turn

    @classmethod
    async def execute(
        cls,
        image: torch.Tensor,
        name: str = "",
        turn: int = _LATEST,
        undo: int = 0,
        server: Server | None = None,
    ) -> io.NodeOutput:
        rows = await rows_of({"image": image})
        if len(rows) > 1:
            raise InvalidRequest(
                f"image: a session begins with one picture, and this is a batch of {len(rows)}.",
                "Take one of them with Image From Batch.",
                field="image",
            )
        picture = rows[0]["image"]
        name = name.strip() or f"comfyui-{hashlib.sha256(picture).hexdigest()[:20]}"
        told: list[str] = []

        async def fetch(client: AsyncClient, on_progress: OnProgress) -> Result:
            session = await _opened(client, picture, name, on_progress)
            for _ in range(undo):
                await session.undo()
            told.append(await _turns(session))
            await session.refresh()
            return await session.result(session.head if turn == _LATEST else turn, on_progress=on_progress)

        on = server_of(server)
        (result,) = await run_edits(on, cls.hidden.unique_id, [fetch], lambda _: told[-1])
        at = SessionTurn(on, name, None if turn == _LATEST else turn)
        return io.NodeOutput(at, await as_image([result.bytes]), told[-1])


async def _opened(client: AsyncClient, picture: bytes, name: str, on_progress: OnProgress) -> AsyncSession:
    try:
        return await client.session(picture, name=name, on_progress=on_progress)
    except SessionConflict as error:
        raise SessionConflict(
            error.message, "Choose another name, or leave it empty for one made from the picture.", **error.details
        ) from error


async def _turns(session: AsyncSession) -> str:
    """The session's turns, a line for each, and which one is the latest picture."""
    turns = await session.history()
    lines = [f"{session.name}, at turn {session.head} of {len(turns)}"]
    lines += [f"{each.turn}: {each.state}, edits turn {each.base}: {each.prompt or each.job}" for each in turns]
    return "\n".join(lines)

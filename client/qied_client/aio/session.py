"""Several turns on one picture."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from qied_client.aio.job import AsyncJob
from qied_client.aio.submission import Submission
from qied_client.errors import NothingToUndo, QiedError, UnknownTurn
from qied_client.options import EditOptions, shows_options
from qied_client.protocol import messages as m
from qied_client.results import OnProgress, Result

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient


class AsyncSession:
    """Several turns on one picture. The session lives in the daemon: it outlasts this object, see ``id``."""

    def __init__(self, client: AsyncClient, state: m.SessionState) -> None:
        self._client = client
        self.id = state.session
        self._state = state

    def __repr__(self) -> str:
        return f"<AsyncSession {self.id}, head {self.head}>"

    @property
    def head(self) -> int:
        """Turn whose result is the latest picture; 0 is the session's first picture."""
        return self._state.head

    @property
    def source(self) -> str:
        """Hash of the session's first picture."""
        return self._state.source

    @shows_options
    async def submit(
        self,
        prompt: str,
        *,
        base: int | None = None,
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncJob:
        """Start a turn that edits the result of turn ``base`` (None: the latest, 0: the first picture)."""
        job = await self._client._editing.hand_in(self._submission(prompt, base, job_id, options), on_progress)
        await self._refresh_if_possible()
        return job

    @shows_options
    async def edit(
        self,
        prompt: str,
        *,
        base: int | None = None,
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Do a turn and return its result. If ``timeout`` (seconds) is over, it is cancelled, as with the task."""
        submission = self._submission(prompt, base, job_id, options)
        try:
            (result,) = await self._client._editing.carry_out(
                submission, timeout, on_progress, named_by_caller=job_id is not None
            )
        finally:
            await self._refresh_if_possible()
        return result

    async def _refresh_if_possible(self) -> None:
        """What was accepted, or is here, counts more than a session's state that is out of date."""
        with suppress(QiedError):
            await self.refresh()

    def _submission(self, prompt: str, base: int | None, job_id: str | None, options: EditOptions) -> Submission:
        return self._client._submission((), prompt, options, job_id=job_id, session=self.id, base=base)

    async def undo(self) -> int:
        """Go back to the picture that the latest turn edited; returns the new head. Raises NothingToUndo."""
        await self.refresh()
        if self.head == 0:
            raise NothingToUndo("The session is at its first picture, so there is no turn to undo.", "Edit first.")
        turn = self.head
        self._state = await self._client._ask(lambda n: m.Undo(n, self.id, turn))
        return self.head

    async def history(self) -> tuple[m.Turn, ...]:
        """Turns so far, the oldest first."""
        await self.refresh()
        return self._state.turns

    async def result(self, turn: int | None = None) -> Result:
        """Fetch the result of a turn (None: the latest) once more."""
        await self.refresh()
        number = self.head if turn is None else turn
        job = next((row.job for row in self._state.turns if row.turn == number), None)
        if job is None:
            raise UnknownTurn(f"Session {self.id} has no result for turn {number}.", "See history().")
        return await (await self._client.job(job)).result()

    async def refresh(self) -> None:
        """Fetch the session's state from the daemon."""
        self._state = await self._client._ask(lambda n: m.History(n, self.id))

    async def close(self) -> None:
        """End the session in the daemon: its pictures may be deleted."""
        await self._client._ask(lambda n: m.Close(n, self.id))

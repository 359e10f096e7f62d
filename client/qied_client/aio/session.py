"""Several turns on one picture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qied_client.aio.job import AsyncJob
from qied_client.aio.submission import Submission
from qied_client.errors import NothingToRedo, NothingToUndo, QiedError, UnknownJob, UnknownTurn
from qied_client.history import UNFINISHED, Turn
from qied_client.inputs import Pictures, sequence
from qied_client.options import EditOptions, shows_options
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import messages as m
from qied_client.results import OnProgress, Result
from qied_client.thumbnail import thumbnail_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from qied_client.aio.client import AsyncClient

_LAST_TURN = 2**31 - 1
_WITHOUT_PICTURE = ("failed", "cancelled", "poisoned")


class AsyncSession:
    """Several turns on one picture; ``name`` is the session's name among the user's own.

    The session lives in the daemon and outlasts this object: ``client.take_up_session(name)`` continues it. As an
    ``async with`` block it is closed at the block's end. Turn 0 is the first picture everywhere.
    """

    def __init__(self, client: AsyncClient, state: m.SessionState) -> None:
        self._client = client
        self.name = state.session
        self._state = state
        self._head = state.head

    def __repr__(self) -> str:
        return f"<AsyncSession {self.name!r} at turn {self.head}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
            return
        with suppress(QiedError):  # the block's own error says more
            await self.close()

    @property
    def head(self) -> int:
        """Turn whose result is the latest picture; 0 is the session's first picture."""
        return self._head

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
        references: Pictures = (),
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncJob:
        """Start a turn that edits the picture of turn ``base`` (None: the latest, 0: the first picture).

        ``references`` are further pictures, which the model sees after that one.
        """
        submission = self._submission(prompt, base, references, job_id, options)
        job = await self._client._editing.hand_in(submission, on_progress)
        with suppress(QiedError):  # that it was accepted counts more than a head that is out of date
            await self.refresh()
        return job

    @shows_options
    async def edit(
        self,
        prompt: str,
        *,
        base: int | None = None,
        references: Pictures = (),
        job_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """Do a turn and return its result. If ``timeout`` (seconds) is over, it is cancelled, as with the task.

        A turn that ends without a picture is left: the session goes back to what it edited.
        """
        submission = self._submission(prompt, base, references, job_id, options)
        try:
            (result,) = await self._client._editing.carry_out(
                submission, timeout, on_progress, named_by_caller=job_id is not None
            )
        finally:
            await self._leave(submission.jobs[0])
        return result

    def _submission(
        self, prompt: str, base: int | None, references: Pictures, job_id: str | None, options: EditOptions
    ) -> Submission:
        pictures = sequence(references)
        return self._client._submission(pictures, prompt, options, job_id=job_id, session=self.name, base=base)

    async def undo(self) -> int:
        """Go back to the picture that the latest turn edited; returns the new head. Raises NothingToUndo."""
        await self.refresh()
        if self.head == 0:
            raise NothingToUndo("The session is at its first picture, so there is no turn to undo.", "Edit first.")
        turn = self.head
        self._update(await self._client._ask(lambda n: m.Undo(n, self.name, turn)))
        return self.head

    async def redo(self) -> int:
        """Go forward again, to the newest turn that edited the latest picture; returns the new head.

        Turns that have no picture, since they failed or were cancelled, are passed over. Raises NothingToRedo, and
        VersionMismatch if the daemon is older.
        """
        await self.refresh()
        undone = None
        async for turn in self._newest_first("redo"):
            if turn.base == self.head and turn.has_picture:
                undone = turn.turn
                break
            if turn.turn <= self.head:  # a turn edits one before it
                break
        if undone is None:
            raise NothingToRedo(
                f"There is no turn to redo from turn {self.head}.", "The session's history shows its turns."
            )
        self._update(await self._client._ask(lambda n: m.Redo(n, self.name, undone)))
        return self.head

    async def history(self) -> tuple[Turn, ...]:
        """All turns, the oldest first; of a daemon of protocol version 1 the newest 64."""
        if (await self._client.connect()).version < 2:
            await self.refresh()
            return tuple(Turn(row.turn, row.base, row.job, row.state) for row in self._state.turns)
        return tuple([turn async for turn in self._newest_first()][::-1])

    async def result(self, turn: int | None = None, *, on_progress: OnProgress | None = None) -> Result:
        """Fetch the picture of a turn (None: the latest) once more; waits if it is still being made.

        Turn 0 is the first picture as it was uploaded, which may be a JPEG; it has no job (``""``), and its seed is 0.
        Raises UnknownTurn, and the job's typed error where the turn has no picture.
        """
        number = await self._number(turn)
        if number == 0:
            return await self._picture(self.source, Turn(0, 0, "", "succeeded"), on_progress)
        found = await self._turn(number)
        try:
            job = await self._client.job(found.job)
            return replace(await job.result(on_progress=on_progress), turn=number)
        except UnknownJob:  # the job was released or has expired; the session keeps the picture
            if found.blob is None:
                raise
        return await self._picture(found.blob, found, on_progress)

    async def thumbnail(self, turn: int | None = None) -> bytes:
        """A JPEG of the picture of a turn (None: the latest), whose longer side has at most 256 pixels.

        That of the first picture, turn 0, is made here from the picture. Raises UnknownTurn where there is no picture
        yet or will be none, and SetupError where Pillow is needed but missing.
        """
        number = await self._number(turn)
        if number and (await self._client.connect()).version >= 2:
            found = await self._turn(number)
            fetched = await self._client._fetch(found.job, thumbnail=True)
            if fetched.thumbnail:
                return bytes(fetched.thumbnail)
            if found.blob is None:
                which = "The session's history shows which turns have one."
                later = "Wait for its result first." if found.state in UNFINISHED else which
                raise UnknownTurn(f"Turn {number} has no picture: it is {found.state}.", later)
        return await asyncio.to_thread(thumbnail_of, (await self.result(number)).bytes)

    async def refresh(self) -> None:
        """Fetch the session's state from the daemon."""
        self._update(await self._client._ask(lambda n: m.History(n, self.name)))

    async def close(self) -> None:
        """End the session in the daemon: its pictures may be deleted. Idempotent."""
        await self._client._ask(lambda n: m.Close(n, self.name))

    async def _leave(self, job_id: str) -> None:
        """Refresh, and undo the turn of a job that ended without a picture, unless the session has gone on since."""
        with suppress(QiedError):  # what became of the edit counts more
            await self.refresh()
            turn = next((row for row in self._state.turns if row.job == job_id), None)
            if turn is not None and turn.turn == self.head and turn.state in _WITHOUT_PICTURE:
                self._update(await self._client._ask(lambda n: m.Undo(n, self.name, turn.turn)))

    def _update(self, state: m.SessionState) -> None:
        self._state = state
        self._head = state.head

    async def _number(self, turn: int | None) -> int:
        if turn is None:
            await self.refresh()
            return self.head
        return turn

    async def _turn(self, number: int) -> Turn:
        if not 1 <= number <= _LAST_TURN:
            raise self._unknown(number)
        if (await self._client.connect()).version < 2:
            turns = await self.history()
        else:
            turns = tuple([Turn.of(row) for row in (await self._page(number + 1)).turns])
        found = next((turn for turn in turns if turn.turn == number), None)
        if found is None:
            raise self._unknown(number)
        return found

    def _unknown(self, number: int) -> UnknownTurn:
        return UnknownTurn(f"Session {self.name!r} has no turn {number}.", "Its history shows those that it has.")

    async def _newest_first(self, what: str = "list of turns") -> AsyncIterator[Turn]:
        before, more = None, True
        while more:
            page = await self._page(before, what)
            for row in reversed(page.turns):
                yield Turn.of(row)
            more = page.more and bool(page.turns)
            before = page.turns[0].turn if page.turns else None

    async def _page(self, before: int | None, what: str = "list of turns") -> m.TurnList:
        page: m.TurnList = await self._client._ask_second_version(lambda n: m.ListTurns(n, self.name, before), what)
        self._head = page.head
        return page

    async def _picture(self, blob: str, turn: Turn, on_progress: OnProgress | None) -> Result:
        """A stored picture as a result, without what is known of its job only."""
        data = await self._client.download(blob, on_progress)
        header = read_header(BytesIO(data), PictureLimits())
        width, height = header.displayed_size
        return Result(data, f"image/{header.format}", width, height, turn.seed or 0, {}, turn.job, turn.turn)


class SessionOpening:
    """What ``AsyncClient.session`` returns: await it for the session, or use it in ``async with``, which closes it."""

    def __init__(self, opening: Coroutine[Any, Any, AsyncSession]) -> None:
        self._opening = opening
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, Any, AsyncSession]:
        return self._opening.__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._opening
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None, "a block that is left was entered"
        await self._session.__aexit__(kind, error, trace)

"""Runs the edits of a batch: some at a time, each once, in order, with what is in memory bounded by how many run."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qied_client.batch.edits import BatchEdit
from qied_client.batch.names import Names
from qied_client.batch.places import synced
from qied_client.batch.state import BatchState, Entry, now
from qied_client.errors import (
    InvalidRequest,
    JobConflict,
    QiedError,
    SetupError,
    UnknownBlob,
    UnknownJob,
    UnreachableError,
)
from qied_client.results import Progress, Result
from qied_client.system_failures import what_helps
from qied_client.thumbnail import thumbnail_of

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient

AT_ONCE: Final = 8
"""Edits under way at a time: enough for a worker's places and for pictures that are sent ahead of them."""
MOST_AT_ONCE: Final = 64
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ATTEMPTS: Final = 3
"""How often an edit is handed in again in one run where its picture is gone from the daemon."""


@dataclass(frozen=True)
class BatchOutcome:
    """How one edit of a batch ended: with a ``result``, or an ``error``.

    ``index`` is its row, from 1, ``number`` its variation. ``paths`` are the files that were written. ``skipped``: it
    was done before, and ``result`` is None as its bytes are in the files. ``error`` is a typed error, or None.
    """

    index: int
    number: int
    name: str
    seed: int
    paths: tuple[Path, ...] = ()
    job: str = ""
    result: Result | None = None
    error: QiedError | None = field(default=None, compare=False)
    skipped: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether its result is there."""
        return self.error is None


OnBatchProgress = Callable[[BatchEdit, Progress], None]


class BatchRun:
    """One run over edits. ``state`` and ``names`` are those of a batch with files, else None."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        batch: str = "",
        state: BatchState | None = None,
        names: Names | None = None,
        at_once: int = AT_ONCE,
        keep_results: bool = True,
        on_progress: OnBatchProgress | None = None,
    ) -> None:
        if not 1 <= at_once <= MOST_AT_ONCE:
            raise InvalidRequest(
                f"at_once: must be 1 to {MOST_AT_ONCE}, not {at_once}.", "Leave it out for 8.", field="at_once"
            )
        self._client = client
        self._state = state
        self._names = names
        self._at_once = at_once
        self._keep_results = keep_results
        self._on_progress = on_progress
        self.batch = batch or (state.batch if state is not None else f"map-{secrets.token_hex(8)}")
        self._position = 0

    async def outcomes(self, edits: Iterable[BatchEdit]) -> AsyncGenerator[BatchOutcome, None]:
        """Run edits and yield how each ended, in their order; ``edits`` is read in a thread, a few ahead.

        Raises UnreachableError when the client's patience with an absent daemon ends, SetupError when the disk of the
        results is full, and what ``edits`` raises. What was accepted by then goes on in the daemon.
        """
        under_way: deque[asyncio.Task[BatchOutcome]] = deque()
        source = iter(edits)
        reading: asyncio.Task[BatchEdit | None] | None = None
        more = True
        try:
            while more or under_way:
                if more and reading is None and len(under_way) < self._at_once:
                    reading = asyncio.create_task(asyncio.to_thread(_next, source))
                tasks: list[asyncio.Task[Any]] = [] if reading is None else [reading]
                tasks += [under_way[0]] if under_way else []
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    edit, reading = reading.result(), None
                    more = edit is not None
                    if edit is not None:
                        self._position += 1
                        under_way.append(asyncio.create_task(self._one(edit, self._position)))
                while under_way and under_way[0].done():
                    yield under_way.popleft().result()
        finally:
            left = [*under_way, *([] if reading is None else [reading])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _one(self, edit: BatchEdit, position: int) -> BatchOutcome:
        entry = None if self._state is None else await asyncio.to_thread(self._state.entry, edit.key)
        fingerprint = await asyncio.to_thread(edit.fingerprint)
        if entry is not None and self._state is not None and await asyncio.to_thread(edit.done, self._state):
            await asyncio.to_thread(self._state.see, edit.key, position)
            return self._outcome(edit, paths=edit.paths, job=entry.job, skipped=True)
        attempt = 0 if entry is None else entry.attempt + (entry.state == "failed")
        begun, job = now(), ""
        try:
            content = await asyncio.to_thread(edit.content)
            for tries in range(_ATTEMPTS):
                job = f"{self.batch}-{content[:24]}" + (f"-{attempt}" if attempt else "")
                await self._note(edit, position, Entry("submitted", attempt, job, fingerprint, {}))
                try:
                    result = await self._edited(edit, job)
                    break
                except (JobConflict, UnknownBlob, UnknownJob):  # another version's request, or its picture is gone
                    if tries + 1 == _ATTEMPTS:
                        raise
                    attempt += 1
        except UnreachableError:
            raise
        except QiedError as error:
            facts = _facts(edit, job, begun) | {"state": "failed", "error": _error_facts(error)}
            await self._note(edit, position, Entry("failed", attempt, job, fingerprint, facts))
            return self._outcome(edit, job=job, error=error)
        try:
            paths, thumbnail = await asyncio.to_thread(self._saved, edit, result)
        except InvalidRequest as error:  # the daemon has the result, so the next run takes up the same job
            facts = _facts(edit, job, begun) | {"state": "failed", "error": _error_facts(error)}
            await self._note(edit, position, Entry("unsaved", attempt, job, fingerprint, facts))
            return self._outcome(edit, job=job, error=error)
        facts = _facts(edit, job, begun) | _result_facts(result) | {"state": "done", "files": [str(p) for p in paths]}
        await self._note(edit, position, Entry("done", attempt, job, fingerprint, facts), thumbnail)
        with suppress(QiedError):
            await self._client.release(job, keep=True)
        return self._outcome(edit, paths=paths, job=job, result=result if self._keep_results else None)

    async def _edited(self, edit: BatchEdit, job: str) -> Result:
        tell: Callable[[Progress], None] | None = None
        if self._on_progress is not None:
            on_progress = self._on_progress
            tell = lambda news: on_progress(edit, news)  # noqa: E731
        accepted = await self._client.submit(
            list(edit.row.pictures), edit.row.prompt, job_id=job, on_progress=tell, **edit.options
        )
        if tell is not None:
            async for news in accepted.events():
                tell(news)
        return await accepted.result(on_progress=tell)

    def _saved(self, edit: BatchEdit, result: Result) -> tuple[tuple[Path, ...], bytes]:
        if self._names is None:
            return (), b""
        if self._state is not None:
            self._state.take(edit.key, edit.files)
        for path in edit.paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                result.save(path, quality=self._names.quality_of(path))
                synced(path)
            except OSError as error:
                raise _not_saved(f"{error.filename or path}: {error.strerror}.", error) from error
            except InvalidRequest as error:
                if isinstance(error.__cause__, OSError):
                    raise _not_saved(error.message, error.__cause__) from error
                raise
        try:
            return edit.paths, thumbnail_of(result.bytes)
        except QiedError:  # without Pillow there is no contact sheet
            return edit.paths, b""

    async def _note(self, edit: BatchEdit, position: int, entry: Entry, thumbnail: bytes = b"") -> None:
        if self._state is not None:
            await asyncio.to_thread(self._state.note, edit.key, position, entry, thumbnail)

    def _outcome(self, edit: BatchEdit, **facts: Any) -> BatchOutcome:
        return BatchOutcome(edit.row.index, edit.number, edit.row.name or edit.row.stem, edit.seed, **facts)


def _not_saved(message: str, error: OSError) -> QiedError:
    """What ends the batch where no result can be saved any more, and is one edit's failure otherwise."""
    if error.errno in _FULL:
        return SetupError(message, "Free space on that disk, then repeat the command: it goes on.")
    return InvalidRequest(message, what_helps(error), field="out")


def _next(source: Iterator[BatchEdit]) -> BatchEdit | None:
    return next(source, None)


def _facts(edit: BatchEdit, job: str, begun: float) -> dict[str, Any]:
    return {
        "row": edit.row.index,
        "where": edit.row.where,
        "name": edit.row.name or edit.row.stem,
        "variation": edit.number,
        "pictures": [each if isinstance(each, str) else type(each).__name__ for each in edit.row.pictures],
        "prompt": edit.row.prompt,
        "seed": edit.seed,
        "job": job,
        "begun": begun,
        "ended": now(),
    }


def _result_facts(result: Result) -> dict[str, Any]:
    return {
        "width": result.width,
        "height": result.height,
        "steps": result.steps,
        "precision": result.precision,
        "preset": result.preset,
        "milliseconds": round(result.timings.get("held_ms", 0)),
        "warnings": list(result.warnings),
    }


def _error_facts(error: QiedError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "remedy": error.remedy}

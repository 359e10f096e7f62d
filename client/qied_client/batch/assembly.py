"""A batch put together: its rows, its names, its options, and what the daemon says that it costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qied_client.batch.checking import Checked, Kind, checked
from qied_client.batch.edits import BatchEdit, edits_of
from qied_client.batch.names import Names
from qied_client.batch.owners import Owners
from qied_client.batch.problems import Problems
from qied_client.batch.rows import Row, numbered
from qied_client.batch.sources import rows_of
from qied_client.batch.state import BatchState
from qied_client.batch.watch import Watch
from qied_client.errors import InvalidRequest, QiedError
from qied_client.system_failures import with_home

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient
    from qied_client.protocol.messages import Quoted

MOST_VARIATIONS = 100


@dataclass
class Batch:
    """Rows from ``sources``, or a ``watched`` folder, with a prompt and options where they have none of their own."""

    sources: Sequence[str]
    prompt: str
    names: Names
    options: Mapping[str, Any] = field(default_factory=dict)
    count: int = 1
    watched: bool = False
    needs_mask: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_VARIATIONS:
            raise InvalidRequest(
                f"count: must be 1 to {MOST_VARIATIONS}, not {self.count}.",
                "Give the number of variations.",
                field="count",
            )
        results = self.names.folder.resolve()
        for source in self.sources:
            folder = with_home(source)
            if folder.is_dir() and folder.resolve() == results:
                raise InvalidRequest(
                    f"{folder}: the results would lie among the pictures, and be edited the next time.",
                    "Write them to another folder.",
                    field="out",
                )
        if self.watched and len(self.sources) != 1:
            raise InvalidRequest("One folder can be watched at a time.", "Name one folder.", field="sources")
        if self.watched and not self.prompt:
            raise InvalidRequest("The prompt is missing.", "Give it behind the folder, in quotes.", field="prompt")
        if self.watched and any("{index}" in pattern for pattern in self.names.patterns):
            raise InvalidRequest(
                "{index} starts from 1 with each start, so it names nothing in a watched folder.",
                "Use {stem}.",
                field="out",
            )

    def check(self) -> Checked:
        """Look through all rows; raises InvalidRequest that names every problem. Nothing has run then."""
        problems = Problems()
        rows = rows_of(self.sources, self.prompt, self.options, problems)
        if self.needs_mask:
            rows = _with_masks(rows, problems)
        return checked(edits_of(rows, self.names, count=self.count, batch=""), problems)

    def edits(self, batch: str, state: BatchState | None = None) -> Iterator[BatchEdit]:
        """The edits, one by one, with seeds by the id of the batch.

        What will come to a watched folder is not known: there each has files that are no other picture's,
        of this run or, by ``state``, of earlier ones.
        """
        if self.watched:
            watch = Watch(with_home(self.sources[0]), self.stop)
            rows: Iterable[Row] = numbered(watch, self.prompt, self.options)
            yield from Owners(state).apart(edits_of(rows, self.names, count=self.count, batch=batch))
            return
        problems = Problems()
        rows = rows_of(self.sources, self.prompt, self.options, problems)
        yield from edits_of(rows, self.names, count=self.count, batch=batch)
        problems.raise_if_any()


def _with_masks(rows: Iterator[Row], problems: Problems) -> Iterator[Row]:
    for row in rows:
        if row.mask is None:
            problems.add(row.where, "the recipe needs a mask.", "Give a column 'mask', or --mask 'masks/{stem}.png'.")
        yield row


async def prices(client: AsyncClient, found: Checked) -> list[tuple[Kind, Quoted]]:
    """What the daemon says of each kind of edit; raises its refusals, all of them in one error."""
    problems = Problems()
    answers: list[tuple[Kind, Quoted]] = []
    limit = asyncio.Semaphore(8)

    async def ask(kind: Kind) -> Quoted:
        async with limit:
            return await client.quote_sizes(kind.sizes, canvas_size=kind.canvas, **kind.options)

    kinds = list(found.kinds.values())
    asked = await asyncio.gather(*(ask(kind) for kind in kinds), return_exceptions=True)
    for kind, answer in zip(kinds, asked, strict=True):
        if isinstance(answer, QiedError) and len(kinds) == 1:
            raise answer
        if isinstance(answer, QiedError):
            problems.add(kind.where, answer.message, answer.remedy)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers.append((kind, answer))
            if not answer.fits and kind.options.get("on_cap") != "fit":
                near = f"{answer.nearest_width} x {answer.nearest_height}"
                problems.add(
                    kind.where,
                    f"{answer.width} x {answer.height} is above this machine's cap.",
                    f"Ask for {near}, or fit.",
                )
    problems.raise_if_any()
    return answers


def expected_ms(answers: Sequence[tuple[Kind, Quoted]], edits: int) -> int:
    """Milliseconds that all edits are expected to run, one after the other."""
    known = sum(kind.count for kind, _ in answers)
    total = sum(kind.count * quoted.milliseconds for kind, quoted in answers)
    return round(total * edits / known) if known else 0

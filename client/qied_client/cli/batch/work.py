"""A batch of the command line from its check to its report."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from qied_client.aio import AsyncClient
from qied_client.batch.assembly import Batch, expected_ms, prices
from qied_client.batch.checking import Checked
from qied_client.batch.edits import BatchEdit
from qied_client.batch.names import Names
from qied_client.batch.report import REPORT, write_report, write_sheets
from qied_client.batch.run import BatchRun
from qied_client.batch.state import FILE, BatchState, now
from qied_client.cli.batch.plan_view import show_plan
from qied_client.cli.batch.progress import BatchProgress
from qied_client.cli.batch.starting import wait_until
from qied_client.cli.editing.words import phrased
from qied_client.cli.exit_status import FAILED, INTERRUPTED, REFUSED, UNREACHABLE
from qied_client.cli.failures import show_failure
from qied_client.cli.status import seconds
from qied_client.errors import QiedError, SetupError, UnreachableError
from qied_client.recipes import Recipe, require_stages
from qied_client.system_failures import system_failure
from qied_client.text import counted

_PATIENCE_S: Final = 3600.0
"""How long a batch waits for a daemon that is away: at night there is no one to start it again."""
_ALIKE: Final = 20
"""So many failures of one kind, and nothing else, end a batch: the rest would fail as well."""
_TOLD: Final = 10
"""Different warnings that are printed at the end; the report has all."""
_STAGES: Final = ("edit", "save")


@dataclass
class Work:
    """What one ``batch`` was asked to do."""

    sources: list[str]
    prompt: str
    names: Names
    options: Mapping[str, Any]
    count: int
    recipe: Recipe | None
    at: datetime | None
    watched: bool
    dry_run: bool
    at_once: int
    sheets: bool
    key: Path | None
    address: str | None
    as_json: bool
    daemon: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """Do it; returns the exit status. Raises InvalidRequest with all problems before anything runs."""
        console = Console(stderr=True, highlight=False)
        whole = self._batch()
        found = None if self.watched else whole.check()
        folder = self.names.folder
        if self.dry_run:
            asyncio.run(self._dry_run(found or Checked(), self._done_before(folder / FILE)))
            return 0
        with BatchState(folder / FILE) as state:
            progress = BatchProgress(None if found is None else found.edits, console)
            begun, status = now(), 0
            try:
                status = asyncio.run(self._work(whole, found, state, progress, console))
            except KeyboardInterrupt:
                status = 0 if self.watched else INTERRUPTED
                if not self.watched:
                    console.print(
                        "stopped; the same command does the rest, and fetches what the daemon goes on with",
                        soft_wrap=True,
                    )
            except UnreachableError as error:
                show_failure(error)
                console.print("the same command does the rest")
                status = UNREACHABLE
            except SetupError as error:
                show_failure(error)
                console.print("the same command does the rest, and fetches what is made")
                status = REFUSED
            try:
                self._conclude(state, progress, begun, status, console)
            except (OSError, SetupError) as error:
                show_failure(error if isinstance(error, SetupError) else system_failure(error, self.names.folder))
                status = status or REFUSED
            return status or (FAILED if progress.failed else 0)

    def _batch(self) -> Batch:
        options = {**self.options, **self.names.asks()}
        prompt = self.prompt
        if self.recipe is not None and (prompt or self.recipe.has_prompt):
            prompt = self.recipe.prompt_for(prompt)
        needs_mask = self.recipe is not None and self.recipe.needs_mask
        return Batch(self.sources, prompt, self.names, options, self.count, self.watched, needs_mask)

    async def _ask(self, client: AsyncClient, found: Checked | None) -> list[Any]:
        """What the daemon says before anything runs; raises its refusals."""
        described = await client.describe()
        self.daemon = {"model": described.model, "precision": described.precision}
        if self.recipe is not None:
            require_stages(self.recipe, described.stages)
        return [] if found is None else await prices(client, found)

    def _done_before(self, file: Path) -> int:
        """How many of the edits are done, as an earlier run noted in its file."""
        if self.watched or not file.is_file():
            return 0
        with BatchState(file) as state:
            return sum(edit.done(state) for edit in self._batch().edits(state.batch))

    async def _dry_run(self, found: Checked, done: int) -> None:
        console = Console(highlight=False)
        answers: list[Any] = []
        try:
            async with AsyncClient(self.key, address=self.address) as client:
                answers = await self._ask(client, found)
        except UnreachableError as error:
            Console(stderr=True, highlight=False).print(
                Text(f"warning: no daemon says what this takes: {error.message}", "yellow"), soft_wrap=True
            )
        if self.as_json:
            left = found.edits - done
            facts = {"rows": found.rows, "edits": left, "done": done, "expected_ms": expected_ms(answers, left)}
            console.print_json(json.dumps(facts))
            return
        masked = any(edit.row.mask is not None for edit in found.first)
        stages = self.recipe.kinds if self.recipe else ("mask", *_STAGES) if masked else _STAGES
        show_plan(console, found, self.names, answers, stages, done)

    async def _work(
        self, whole: Batch, found: Checked | None, state: BatchState, progress: BatchProgress, console: Console
    ) -> int:
        try:
            async with AsyncClient(self.key, address=self.address) as client:
                answers = await self._ask(client, found)
            await self._begin(whole, state, answers, found, console)
            async with AsyncClient(self.key, address=self.address, patience=_PATIENCE_S) as client:
                run = BatchRun(
                    client,
                    state=state,
                    names=self.names,
                    at_once=self.at_once,
                    keep_results=False,
                    on_progress=progress.heard,
                )
                with progress:
                    progress.begin()
                    return await _followed(run, whole.edits(run.batch, state), progress, console)
        finally:
            whole.stop.set()

    async def _begin(
        self, whole: Batch, state: BatchState, answers: list[Any], found: Checked | None, console: Console
    ) -> None:
        if found is not None:
            took = f", about {seconds(expected_ms(answers, found.edits))}" if answers else ""
            console.print(Text(f"{counted(found.edits, 'edit')} of {counted(found.rows, 'row')}{took}"), soft_wrap=True)
        if self.at is None:
            return
        if await asyncio.to_thread(state.unfinished, (edit.key for edit in self._batch().edits(state.batch))):
            console.print("this batch had begun: it goes on now")
            return
        console.print(Text(f"waiting until {self.at:%Y-%m-%d %H:%M}"))
        await asyncio.to_thread(wait_until, self.at, whole.stop)

    def _conclude(
        self, state: BatchState, progress: BatchProgress, begun: float, status: int, console: Console
    ) -> None:
        facts = {
            "batch": state.batch,
            "begun": begun,
            "ended": now(),
            "finished": status in (0, FAILED),
            "made": progress.made,
            "skipped": progress.skipped,
            "failed": progress.failed,
            **self.daemon,
        }
        report = self.names.folder / REPORT
        write_report(state, report, facts)
        sheets = write_sheets(state, self.names.folder) if self.sheets else []
        if self.as_json:
            Console(highlight=False).print_json(json.dumps(facts))
            return
        for warning, edits in Counter(text for row in state.facts() for text in row.get("warnings", ())).most_common(
            _TOLD
        ):
            of = f" ({edits} edits)" if edits > 1 else ""
            console.print(Text(f"warning: {phrased(warning)}{of}", "yellow"), soft_wrap=True)
        before = f", {progress.skipped} done before" if progress.skipped else ""
        failed = f", {progress.failed} failed" if progress.failed else ""
        console.print(Text(f"{progress.made} made{before}{failed}"))
        for path in (report, *sheets[:1]):
            console.print(Text(f"  {path}"), soft_wrap=True)


async def _followed(run: BatchRun, edits: Iterable[BatchEdit], progress: BatchProgress, console: Console) -> int:
    codes: Counter[str] = Counter()
    outcomes = run.outcomes(edits)
    try:
        async for outcome in outcomes:
            progress.ended_one(outcome)
            if outcome.error is not None:
                codes[outcome.error.code] += 1
            if codes.total() >= _ALIKE and len(codes) == 1 and not (progress.made or progress.skipped):
                console.print(Text(f"the first {_ALIKE} edits failed alike, and the others are left out", "red"))
                return FAILED
    finally:
        with suppress(QiedError):
            await outcomes.aclose()
    return 0

"""The edits of one command: submitted, followed, saved, and what to say of those that end otherwise."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from qied_client.aio.client import new_id, seed_of
from qied_client.aio.job import named, take_up
from qied_client.cli.editing.places import Place
from qied_client.cli.options import program
from qied_client.cli.progress import EditProgress
from qied_client.client import Client, Job
from qied_client.errors import InvalidRequest, QiedError, UnknownBlob, UnknownJob, UnreachableError
from qied_client.inputs import Picture
from qied_client.protocol import limits
from qied_client.results import Result


@dataclass(frozen=True)
class Saved:
    """A result and the file that it is in."""

    path: Path
    result: Result


def collect(job: Job, place: Place, path: Path, progress: EditProgress) -> Saved:
    """Follow a job to its end, save its picture at ``path``, and say that it is here; the daemon keeps it.

    Raises the job's typed error, which names the job and how its picture is had.
    """
    try:
        for news in job.events():
            progress(news)
        result = job.result(on_progress=progress)
    except QiedError as error:
        raise _with_job(error, job.id, path) from error
    try:
        place.save(result, path)
    except InvalidRequest as error:
        raise named(error, job.id, f"Then get the picture: {getting(job.id, path)}", finished=True) from error
    with suppress(QiedError):
        job.release(keep=True)
    return Saved(path, result)


def getting(job: str, path: Path) -> str:
    """The command that gets a picture later."""
    return f"{program()} result {job} -o {shlex.quote(str(path))}"


def _with_job(error: QiedError, job: str, path: Path) -> QiedError:
    if isinstance(error, UnreachableError) or error.remedy.endswith(take_up(job)):
        return named(error, job, f"Then: {getting(job, path)}")
    error.details["job"] = job
    if isinstance(error, UnknownBlob):  # its picture did not arrive; any other error is how the job ended
        error.remedy = f"{error.remedy} Try again: {getting(job, path)}".strip()
    return error


class Edits:
    """The edits of one ``qied edit``: one, or ``place.count`` variations with seeds one after the other."""

    def __init__(self, client: Client, place: Place, job_id: str | None, seed: int | None) -> None:
        self._client = client
        self._place = place
        name = job_id or new_id("job")
        self._names = [name] if place.count == 1 else [f"{name}-{n}" for n in range(1, place.count + 1)]
        first = seed_of(name) if seed is None else seed
        self._seeds = [(first + n) % (limits.SEED + 1) for n in range(place.count)]
        self._saved: list[Saved] = []

    def run(self, pictures: Sequence[Picture], prompt: str, options: dict[str, Any]) -> list[Saved]:
        """Do all of them; what is saved stays. Raises the first failure once the others have ended."""
        failure: QiedError | None = None
        jobs: list[Job] = []
        with EditProgress() as progress:
            for name, seed in zip(self._names, self._seeds, strict=True):
                try:
                    jobs.append(
                        self._client.submit(
                            list(pictures), prompt, job_id=name, seed=seed, on_progress=progress, **options
                        )
                    )
                except QiedError as error:
                    if not jobs:
                        raise
                    failure = error
                    break
            for number, job in enumerate(jobs, 1):
                progress.which = f"{number} of {len(self._names)}" if len(self._names) > 1 else ""
                path = self._place.path(number, self._seeds[number - 1])
                try:
                    self._saved.append(collect(job, self._place, path, progress))
                except QiedError as error:
                    failure = failure or error
        if failure is not None:
            for saved in self._saved:
                Console(stderr=True, highlight=False).print(Text(f"saved {saved.path}"), soft_wrap=True)
            raise failure
        return self._saved

    def stop(self, console: Console) -> None:
        """After Ctrl-C: cancel what has not ended, and say of each edit how it stands."""
        for number in range(len(self._saved), len(self._names)):
            console.print(Text(self._stopped(number)), soft_wrap=True)

    def _stopped(self, number: int) -> str:
        name, path = self._names[number], self._place.path(number + 1, self._seeds[number])
        try:
            answer = self._client.cancel(name)
        except UnknownJob:
            return f"cancelled {name} before it was accepted"
        except QiedError as error:
            return f"{name} may go on: {error.message} Get its picture: {getting(name, path)}"
        if answer == "cancelled":
            return f"cancelled {name}"
        return f"{name} had finished; get its picture: {getting(name, path)}"

"""A workflow carried out by a daemon: read, compared with what the daemon has, and run node after node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qied_client.errors import InvalidRequest, VersionMismatch
from qied_client.inputs import Picture
from qied_client.options import EditOptions
from qied_client.results import OnProgress, Result
from qied_client.workflows.documents import read_document
from qied_client.workflows.files import FindPicture
from qied_client.workflows.folders import PictureFolders, Stored
from qied_client.workflows.overrides import with_settings
from qied_client.workflows.reading import read_workflow
from qied_client.workflows.remade import remade
from qied_client.workflows.request import WorkflowRequest
from qied_client.workflows.requests import Examined, examine
from qied_client.workflows.rules.table import PREVIEWS, SAVES
from qied_client.workflows.served import Served
from qied_client.workflows.workflow import Workflow, refused

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient

AnyWorkflow = str | os.PathLike[str] | Mapping[str, Any] | Workflow
"""A workflow: its file (JSON, or a picture that carries it), what JSON gives, or one that was read."""
AnyPictures = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Picture] | FindPicture
"""Where pictures are: folders, pictures by their names, or a callable that gives one for a name."""


@dataclass(frozen=True)
class WorkflowResult:
    """What a save node got: its request, and the results, one unless it asked for several."""

    request: WorkflowRequest
    results: tuple[Result, ...]

    @property
    def result(self) -> Result:
        """The first result."""
        return self.results[0]


def examined(
    workflow: AnyWorkflow,
    pictures: AnyPictures | None,
    settings: Mapping[str, Any],
    served: Served | None,
    only: Collection[str] = (),
    stored: Stored | None = None,
) -> Examined:
    """Read a workflow and tell what it asks for, and what of it cannot be run.

    ``stored`` fetches pictures by hash that are in no folder.
    Raises InvalidRequest for what is not a workflow, for a setting or a node that there is not, and SetupError where
    Pillow is needed and missing.
    """
    own = [value for value in settings.values() if isinstance(value, str)]
    source: Any = workflow
    if isinstance(workflow, (str, os.PathLike)):
        path = Path(workflow).expanduser()
        find = _finder(pictures, path, stored, own)
        document = read_document(path)
        if document.made is not None:
            if settings or only:
                raise InvalidRequest(
                    f"{path} carries settings of qied and no nodes that could be named.",
                    "Give other settings to the command that 'show' prints for it.",
                    field="set",
                )
            return Examined((remade(document.made, lambda blob: find(f"{blob}.png")),), ())
        source = document.workflow
    else:
        find = _finder(pictures, None, stored, own)
    found = with_settings(source if isinstance(source, Workflow) else read_workflow(source), settings)
    if unknown := [name for name in only if name not in found.nodes]:
        saving = [node.id for node in found.nodes.values() if node.class_type in (*SAVES, *PREVIEWS)]
        raise InvalidRequest(
            f"There is no node {unknown[0]!r}.", f"Save nodes are {', '.join(saving) or 'none'}.", field="only"
        )
    return examine(found, find, served, only=only)


async def served_by(client: AsyncClient) -> Served | None:
    """What a daemon serves; None where it is too old to say."""
    try:
        return Served.of(await client.describe(), await client.loras())
    except VersionMismatch:
        return None


async def run_workflow(
    client: AsyncClient,
    workflow: AnyWorkflow,
    pictures: AnyPictures | None,
    settings: Mapping[str, Any],
    only: Collection[str],
    timeout: float | None,
    on_progress: OnProgress | None,
    options: EditOptions,
) -> list[WorkflowResult]:
    """Carry out a workflow; see ``AsyncClient.run_workflow``."""
    served = await served_by(client)
    loop = asyncio.get_running_loop()

    def stored(blob: str) -> bytes:
        return asyncio.run_coroutine_threadsafe(client.download(blob), loop).result()

    found = await asyncio.to_thread(examined, workflow, pictures, settings, served, only, stored)
    if found.problems:
        raise refused(found.problems)
    now = loop.time
    end = None if timeout is None else now() + timeout
    done: list[WorkflowResult] = []
    for request in found.requests:
        given: EditOptions = {**request.options(), **options}
        left = None if end is None else max(end - now(), 0.0)
        results = await client.edit(
            list(request.images), request.prompt, n=request.count, timeout=left, on_progress=on_progress, **given
        )
        done.append(WorkflowResult(request, tuple(results)))
    return done


def _finder(
    pictures: AnyPictures | None, file: Path | None, stored: Stored | None, own: Collection[str]
) -> FindPicture:
    if callable(pictures):
        return pictures
    if isinstance(pictures, Mapping):
        return _by_name(pictures)
    if pictures is None:
        named: list[Path] = []
    elif isinstance(pictures, (str, os.PathLike)):
        named = [Path(pictures).expanduser()]
    else:
        named = [Path(each).expanduser() for each in pictures]
    if missing := next((folder for folder in named if not folder.is_dir()), None):
        raise InvalidRequest(f"{missing} is not a folder.", "Name a folder of pictures.", field="inputs")
    around = file if file is not None else Path.cwd() / "workflow.json"
    return PictureFolders.around(around, named, os.environ, stored, own)


def _by_name(pictures: Mapping[str, Picture]) -> FindPicture:
    def find(name: str) -> Picture:
        if name not in pictures:
            raise InvalidRequest(
                f"{name} is not among the pictures.",
                f"There are: {', '.join(map(str, pictures)) or 'none'}.",
                field="workflow",
            )
        return pictures[name]

    return find

"""``client.map``: a batch from a program, with rows as it makes them and results as it wants them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qied_client.batch.assembly import Batch, prices
from qied_client.batch.edits import edits_of
from qied_client.batch.names import Names
from qied_client.batch.rows import Row, column_of, row_of
from qied_client.batch.run import BatchOutcome, BatchRun, OnBatchProgress
from qied_client.batch.state import FILE, BatchState
from qied_client.errors import InvalidRequest
from qied_client.inputs import Pictures
from qied_client.options.edit_options import OPTIONS
from qied_client.options.unknown import unknown_option
from qied_client.recipes import recipe_named, require_mask, require_stages

if TYPE_CHECKING:
    from qied_client.aio.client import AsyncClient

MapItem = Pictures | Mapping[str, Any]
"""A picture, or a mapping of ``picture``, ``prompt``, ``mask``, ``name`` and options of its own."""
Edits = str | os.PathLike[str] | Iterable[MapItem]
"""A folder, a pattern or a manifest by its name, or any iterable of rows."""


@dataclass(frozen=True)
class MapSettings:
    """What ``client.map`` takes next to the rows; see there."""

    prompt: str
    out: str | Sequence[str]
    count: int
    recipe: str | None
    batch: str | None
    at_once: int
    on_progress: OnBatchProgress | None
    options: Mapping[str, Any]


async def run_map(client: AsyncClient, edits: Edits, settings: MapSettings) -> AsyncGenerator[BatchOutcome, None]:
    """Run rows and yield how each ended, in their order."""
    options, prompt = await with_recipe(client, settings.recipe, settings.options, settings.prompt)
    patterns = [settings.out] if isinstance(settings.out, str) else list(settings.out)
    names = Names(patterns, count=settings.count) if patterns else None
    if names is not None:
        options |= names.asks()
    for name in options:
        if name not in OPTIONS:
            raise unknown_option(name, OPTIONS)
    options = {"previews": settings.on_progress is not None, "preemptible": True, **options}
    with ExitStack() as stack:
        state = None if names is None else stack.enter_context(BatchState(names.folder / FILE))
        run = BatchRun(
            client,
            batch=settings.batch or "",
            state=state,
            names=names,
            at_once=settings.at_once,
            on_progress=settings.on_progress,
        )
        if isinstance(edits, (str, os.PathLike)):
            if names is None:
                raise InvalidRequest("No name for the results is given.", "Give out='out/{stem}.png'.", field="out")
            whole = Batch([os.fspath(edits)], prompt, names, options, settings.count)
            await prices(client, whole.check())
            rows = whole.edits(run.batch)
        else:
            rows = edits_of(_rows(edits, prompt, options), names, count=settings.count, batch=run.batch)
        async for outcome in run.outcomes(rows):
            yield outcome


async def with_recipe(
    client: AsyncClient, name: str | None, options: Mapping[str, Any], prompt: str, *, saves: bool = False
) -> tuple[Any, str]:
    """Options and prompt with those of a recipe behind them, its format too where it ``saves``.

    Raises InvalidRequest for a stage that is not offered.
    """
    if name is None:
        return dict(options), prompt
    recipe = recipe_named(name)
    require_stages(recipe, (await client.describe()).stages)
    output = recipe.output() if saves else {}
    if saves:
        require_mask(recipe, options.get("mask"))
    return {**recipe.options(), **output, **options}, recipe.prompt_for(prompt)


def _rows(edits: Iterable[MapItem], prompt: str, options: Mapping[str, Any]) -> Iterator[Row]:
    for index, item in enumerate(edits, 1):
        given = (
            {column_of(key): value for key, value in item.items()} if isinstance(item, Mapping) else {"picture": item}
        )
        yield row_of(given, index, f"row {index}", prompt=prompt, options=options, folder=None)

"""From a checked form to jobs: one for each result that was asked for, with seeds that follow each other."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qied_client.aio import AsyncClient, AsyncJob, AsyncSession
from qied_client.aio.client import seed_of
from qied_client.protocol import limits
from qied_client.recipes import require_stages
from qied_client.web.forms import EditForm, preset_for


@dataclass
class Submitted:
    """The jobs of one request. ``durable``: they go on if the caller leaves, since it may come back for them."""

    form: EditForm
    durable: bool
    jobs: list[AsyncJob] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    async def abandon(self) -> None:
        """The caller is gone: stop what it cannot come back for. Raises nothing."""
        if not self.durable:
            cancelling = asyncio.gather(*(job.cancel() for job in self.jobs), return_exceptions=True)
            await asyncio.shield(cancelling)


async def submit(
    client: AsyncClient,
    form: EditForm,
    names: Sequence[str],
    *,
    durable: bool,
    session: AsyncSession | None = None,
    base: int | None = None,
    previews: bool = True,
) -> Submitted:
    """Submit one job for each of ``names``; with a ``session``, as turns that edit the picture of turn ``base``.

    What is returned holds no pictures: an edit may wait for hours, and the daemon has them. If one is refused, those
    before it are given up. Raises what ``AsyncClient.submit`` does.
    """
    if form.recipe is not None:
        require_stages(form.recipe, (await client.describe()).stages)
    options = {**options_of(client, form), "previews": previews}
    first = options.pop("seed", None)
    first = seed_of(names[0]) if first is None else first
    without = {name: value for name, value in form.options.items() if name not in ("canvas", "redraw")}
    submitted = Submitted(replace(form, images=(), mask=None, options=without), durable)
    try:
        for number, name in enumerate(names):
            options["seed"] = (first + number) % (limits.SEED + 1)
            if session is None:
                job = await client.submit(list(form.images), form.prompt, job_id=name, **options)
            else:
                job = await session.submit(form.prompt, base=base, references=list(form.images), job_id=name, **options)
            submitted.jobs.append(job)
            submitted.seeds.append(options["seed"])
    except BaseException:
        await submitted.abandon()
        raise
    return submitted


def takes_no_picture(client: AsyncClient) -> bool:
    """Whether the served model makes pictures from text alone."""
    assert client.welcome is not None, "a client of the gateway is connected"
    return client.welcome.max_images == 0


def options_of(client: AsyncClient, form: EditForm) -> dict[str, Any]:
    """The options of a client for what the form asks."""
    assert client.welcome is not None, "a client of the gateway is connected"
    options = {**form.options, "mask": form.mask}
    options.update(output_format=form.output_format, output_quality=form.output_quality)
    if "preset" not in options:
        options["preset"] = preset_for(form.quality, client.welcome.presets)
    return options


def durable_id(user: str, key: str, number: int) -> str:
    """The job that a user's idempotency key stands for: the same one over restarts of gateway and daemon."""
    return f"key-{hashlib.sha256(json.dumps([user, key, number]).encode()).hexdigest()[:40]}"

"""Previews alone and next to a batch, in turns, and what each costs the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image
from qied_client import AsyncClient
from wire_bench.daemon import Daemon
from wire_bench.machine import Neighbours
from wire_bench.spread import Figure, quantile

SIDE = 256
PREVIEW_STEPS = 4
BATCH_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """Rounds, and previews in each half of a round."""

    rounds: int = 3
    previews: int = 25
    settle_s: float = 2.0


FULL = Plan()
QUICK = Plan(rounds=1, previews=3, settle_s=0.5)


def measure(plan: Plan, home: Path, engine: str, advance: Callable[[], None], *, preemptible: bool) -> dict[str, Any]:
    """Measure one way of running the batch: as ``qied batch`` does, or as edits like all others."""
    with Daemon(home, engine) as daemon:
        picture = home / "picture.png"
        Image.effect_noise((256, 256), 40).convert("RGB").save(picture)
        rounds = [
            asyncio.run(_round(plan, daemon.key, picture, number, preemptible)) for number in _counted(plan, advance)
        ]
    return {
        "preemptible": preemptible,
        "engine": engine,
        "preview_steps": PREVIEW_STEPS,
        "batch_steps": BATCH_STEPS,
        "ratio_p95": vars(Figure.of([row["ratio_p95"] for row in rounds])),
        "ratio_p50": vars(Figure.of([row["ratio_p50"] for row in rounds])),
        "rounds": rounds,
    }


def _counted(plan: Plan, advance: Callable[[], None]) -> Iterator[int]:
    for number in range(plan.rounds):
        yield number
        advance()


async def _round(plan: Plan, key: Path, picture: Path, number: int, preemptible: bool) -> dict[str, Any]:
    async with AsyncClient(key) as person, AsyncClient(key) as shop:
        seeds = count(1_000_000 * (number + 1))
        neighbours = Neighbours()
        alone = await _previews(person, picture, seeds, plan.previews)
        made: list[float] = []
        batch = asyncio.create_task(_batch(shop, picture, seeds, made, preemptible))
        await asyncio.sleep(plan.settle_s)
        begun = time.monotonic()
        beside = await _previews(person, picture, seeds, plan.previews)
        took = time.monotonic() - begun
        batch.cancel()
        with suppress(asyncio.CancelledError):
            await batch
        await _cancel_all(shop)
    return {
        "alone_ms": _spread(alone),
        "beside_ms": _spread(beside),
        "ratio_p95": round(quantile(beside, 0.95) / quantile(alone, 0.95), 3),
        "ratio_p50": round(quantile(beside, 0.5) / quantile(alone, 0.5), 3),
        "batch_edits_meanwhile": sum(begun <= at <= begun + took for at in made),
        "seconds": round(took, 1),
        "other_cores": neighbours.cores(),
    }


async def _previews(client: AsyncClient, picture: Path, seeds: Iterator[int], many: int) -> list[float]:
    """Milliseconds of previews, one after the other as a person makes them."""
    spent = []
    for _ in range(many):
        begun = time.perf_counter()
        await client.edit(
            picture, "a preview", seed=next(seeds), steps=PREVIEW_STEPS, previews=False, width=SIDE, height=SIDE
        )
        spent.append((time.perf_counter() - begun) * 1000)
    return spent


async def _batch(
    client: AsyncClient, picture: Path, seeds: Iterator[int], made: list[float], preemptible: bool
) -> None:
    rows = ({"picture": picture, "seed": seed} for seed in seeds)
    outcomes = client.map(rows, "a batch", steps=BATCH_STEPS, preemptible=preemptible, width=SIDE, height=SIDE)
    async for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        made.append(time.monotonic())


async def _cancel_all(client: AsyncClient) -> None:
    for job in await client.jobs(limit=50):
        if job.state in ("waiting", "running"):
            await client.cancel(job.id)


def _spread(samples: list[float]) -> dict[str, float]:
    return {f"p{round(100 * share)}": round(quantile(samples, share), 1) for share in (0.5, 0.95)}

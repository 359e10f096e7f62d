"""The night itself: a daemon, a batch as ``qied batch`` runs it, and what it took."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from part_runs.part import Recorder
from PIL import Image
from qied_client import AsyncClient
from qied_client.batch.assembly import Batch, prices
from qied_client.batch.names import Names
from qied_client.batch.run import BatchOutcome, BatchRun
from qied_client.batch.state import FILE, BatchState
from serve_bench.served import model_folder, profile_file
from serve_bench.watch import REPORT
from wire_bench.daemon import Daemon

from shop_bench.setting import Setting
from shop_bench.stock import write_lora, write_pictures, write_upscaler

_PROMPT = "make the sky darker and the red circle blue"
_FIRST = 8
"""Pictures after which a worker has everything that it keeps: as many as a batch has under way."""


def night(setting: Setting, record: Recorder) -> None:
    """Edit all pictures, and record seconds, memory and files."""
    with tempfile.TemporaryDirectory(prefix="qied-shop-") as temporary:
        folder = Path(temporary)
        report = folder / "report.jsonl"
        write_pictures(folder, setting.pictures, setting.side)
        settings = {REPORT: str(report), "QIED_MODEL_PRECISION": setting.precision, "QIED_STORAGE_PACKED_BYTES": "0"}
        if setting.budget_bytes is not None:
            settings["QIED_WORKER_BUDGET_BYTES"] = str(setting.budget_bytes)
        model, engine = "builtin", "shop_bench.engine:load"
        if setting.model == "full-size":
            model, engine = str(model_folder(folder / "model")), "shop_bench.engine:load_random"
            settings["QIED_MODEL_PROFILE"] = str(profile_file(folder))
            settings["QIED_MODEL_LORAS"] = str(folder / "loras")
            settings["QIED_MODEL_UPSCALERS"] = str(folder / "upscalers")
            write_lora(folder / "loras" / f"{setting.lora}.safetensors")
            write_upscaler(folder / "upscalers" / "4x-random.safetensors")
        else:
            settings["QIED_MODEL_DEVICE"] = "cpu"
        begun = time.perf_counter()
        with Daemon(folder / "home", engine, model, settings) as daemon:
            record.put("start_s", value=round(time.perf_counter() - begun, 1))
            told = ("device", "precision", "max_pixels", "peak_bytes", "budget_bytes")
            record.put("plan", value={name: daemon.planned.get(name) for name in told})
            asyncio.run(_edited(setting, folder, daemon, record))
            record.put("plan", value=_lines(report)[0])
            record.put("memory", value=memory_of(_lines(report)[1:], record_since(folder)))
        record.put("files", value=_checked(setting, folder))


@asynccontextmanager
async def _opened(setting: Setting, folder: Path, daemon: Daemon) -> AsyncIterator[tuple[BatchRun, Batch, AsyncClient]]:
    names = Names([str(folder / "out" / f"{{stem}}.{kind}") for kind in ("png", "webp")], quality=setting.webp_quality)
    options = {
        **names.asks(),
        "previews": False,
        "preemptible": True,
        "mask": str(folder / "masks" / "{stem}.png"),
        "loras": [setting.lora],
        "steps": setting.steps,
        "true_cfg_scale": 1.0,
        "width": setting.side,
        "height": setting.side,
        "upscale": setting.upscale,
    }
    async with AsyncExitStack() as stack:
        state = stack.enter_context(BatchState(names.folder / FILE))
        client = await stack.enter_async_context(AsyncClient(daemon.key, patience=60.0))
        yield BatchRun(client, state=state, names=names), Batch([str(folder / "in")], _PROMPT, names, options), client


async def _edited(setting: Setting, folder: Path, daemon: Daemon, record: Recorder) -> None:
    """Run the batch; figures of what was done so far are recorded after every few pictures."""
    async with _opened(setting, folder, daemon) as (run, batch, client):
        for kind, quoted in await prices(client, batch.check()):
            facts = {"width": quoted.width, "height": quoted.height, "expected_s": quoted.milliseconds / 1000}
            record.put("quote", value={"edits": kind.count, **facts})
        begun, made = time.perf_counter(), list[dict[str, float]]()
        async for outcome in run.outcomes(batch.edits(run.batch)):
            made.append(_timings(outcome) | {"ended_s": time.perf_counter() - begun})
            if len(made) == min(_FIRST, setting.pictures):
                (folder / "warm").write_text(str(time.time()), encoding="utf-8")
            if len(made) % 5 == 0 or len(made) == setting.pictures:
                record.put("pictures", value=pictures_of(made))


def _timings(outcome: BatchOutcome) -> dict[str, float]:
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return {"bytes": len(outcome.result.bytes), **outcome.result.timings}


def pictures_of(made: list[dict[str, float]]) -> dict[str, Any]:
    """Seconds a picture by the clock, and medians of what the worker did for one, in milliseconds.

    ``seconds_each_warm`` leaves out the first ones, which find nothing loaded.
    """
    first, ended = made[: _FIRST if len(made) > _FIRST else 1], [one["ended_s"] for one in made]
    phases = sorted({name for one in made for name in one if name.endswith("_ms")})
    rest = made[len(first) :] or made
    return {
        "made": len(made),
        "seconds": round(ended[-1], 2),
        "seconds_each": round(ended[-1] / len(made), 3),
        "seconds_each_warm": round((ended[-1] - ended[len(first) - 1]) / max(1, len(made) - len(first)), 3),
        "phases_ms": {name: round(median(one.get(name, 0.0) for one in rest), 1) for name in phases},
        "png_bytes": round(median(one["bytes"] for one in rest)),
    }


def record_since(folder: Path) -> float:
    """When the first pictures were done, by the clock of the samples."""
    return float((folder / "warm").read_text(encoding="utf-8"))


def memory_of(samples: list[dict[str, Any]], since: float) -> dict[str, Any]:
    """The most on the card, and the host's memory in both halves of the time ``since`` the first pictures were done."""
    warm = [line["host_bytes"] for line in samples if line["at"] >= since]
    found: dict[str, Any] = {"host_bytes": [line["host_bytes"] for line in samples[:: max(1, len(samples) // 60)]]}
    if len(warm) > 1:
        half = len(warm) // 2
        found |= {"host_first_half_bytes": max(warm[:half]), "host_second_half_bytes": max(warm[half:])}
    if "peak_reserved_bytes" in samples[-1]:
        beside = round(median(line["beside_bytes"] for line in samples))
        reserved = samples[-1]["peak_reserved_bytes"]
        found |= {"reserved_bytes": reserved, "beside_bytes": beside, "peak_bytes": reserved + beside}
    return found


def _checked(setting: Setting, folder: Path) -> dict[str, Any]:
    """How many files there are that can be decoded to their end, all of the same size."""
    files = sorted(path for path in (folder / "out").iterdir() if path.suffix in (".png", ".webp"))
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(_decoded, files))
    expected = {suffix: sum(path.suffix == suffix for path in files) for suffix in (".png", ".webp")}
    return {
        "right": sum(size == sizes[0] for size in sizes) if set(expected.values()) == {setting.pictures} else 0,
        "wanted": 2 * setting.pictures,
        "size": list(sizes[0] or ()) if sizes else None,
        "bytes": sum(path.stat().st_size for path in files),
    }


def _decoded(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.size
    except (OSError, SyntaxError, ValueError):
        return None


def _lines(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]

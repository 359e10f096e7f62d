"""One edit of the small built-in model through the whole daemon, beside the bare engine, and where the time goes."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass, fields
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image
from qied_client import Client
from qied_client.credentials import read_credential
from qied_client.net.driver import Driver
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest
from qied_client.transfers import hash_of

from qied.resources import builtin_model_folder
from wire_bench.bare_engine import PROMPT, SIDE, BareEdit
from wire_bench.uploaders import open_driver


@dataclass(frozen=True)
class Edit:
    """One edit of each way, in milliseconds. ``engine`` is the time of the engine's phases in the daemon's worker."""

    daemon: float
    engine: float
    bare: float
    same_pixels: bool

    @property
    def overhead(self) -> float:
        """What the daemon adds to its engine."""
        return self.daemon - self.engine


@dataclass(frozen=True)
class Stages:
    """One edit through the daemon in parts, in milliseconds; they add up to the whole, but for ``engine``."""

    prepare: float
    """Reading the picture's header, hashing and checking the request, in the client."""
    quote: float
    """QUOTE to QUOTED."""
    put: float
    """PUT to STORED, with the daemon's sync to the disk and its journal."""
    submit: float
    """SUBMIT to ACCEPTED, with the journal's commit."""
    begin: float
    """ACCEPTED to the worker's first unit: order, fetch and decode of the picture (RESUME runs beside it)."""
    reports: float
    """What the step loop takes between units of the engine: reports, and previews as JPEG."""
    encode: float
    """Encoding and hashing the result."""
    deliver: float
    """The result to the front, onto its disk and into its journal, and RESULT to the client."""
    fetch: float
    """GET to the last byte."""
    release: float
    """RELEASE to RELEASED, with the journal's commit."""


STAGES = tuple(field.name for field in fields(Stages))


class Editor:
    """Edits a new picture each time, so that neither side has anything of it in a cache."""

    def __init__(self, key: Path, bare: Connection, steps: int, previews: bool) -> None:
        self._key = key
        self._bare = bare
        self._steps = steps
        self._previews = previews
        self._demo = Image.open(builtin_model_folder().parent / "demo.png").convert("RGB").resize((SIDE, SIDE))
        self._number = 0

    def rounds(self, count: int) -> list[Edit]:
        """``count`` edits through the daemon, each followed by the same one on the bare engine."""
        with Client(self._key) as client:
            return [self._edit(client) for _ in range(count)]

    def stages(self, count: int) -> list[Stages]:
        """``count`` edits through the daemon, in parts."""
        return asyncio.run(self._stages(count))

    def _edit(self, client: Client) -> Edit:
        data, seed = self._next_picture(), self._number
        started = time.perf_counter()
        result = client.edit(data, PROMPT, **self._options(seed))
        daemon = (time.perf_counter() - started) * 1000
        self._bare.send((data, seed, self._steps, self._previews))
        bare: BareEdit = self._bare.recv()
        same = hash_of(result.image.convert("RGB").tobytes()) == bare.pixels
        return Edit(daemon, _engine_ms(result.timings), bare.milliseconds, same)

    async def _stages(self, count: int) -> list[Stages]:
        pushed: asyncio.Queue[tuple[float, m.Message]] = asyncio.Queue()
        driver = open_driver(
            read_credential(self._key), lambda message: pushed.put_nowait((time.perf_counter(), message))
        )
        await driver.start()
        try:
            return [await self._stage(driver, pushed) for _ in range(count)]
        finally:
            await driver.close()

    async def _stage(self, driver: Driver, pushed: asyncio.Queue[tuple[float, m.Message]]) -> Stages:
        data, seed = self._next_picture(), self._number
        job = f"stages-{self._previews}-{seed}"
        marks = [time.perf_counter()]
        size = m.ImageSize(*read_header(io.BytesIO(data), PictureLimits()).displayed_size)
        blob = hash_of(data)
        request = EditRequest((blob,), PROMPT, **self._options(seed)).validated()
        marks.append(time.perf_counter())
        await driver.ask(lambda n: m.Quote(n, request, (size,)))
        marks.append(time.perf_counter())
        await driver.upload(blob, memoryview(data))
        marks.append(time.perf_counter())
        await driver.ask(lambda n: m.Submit(n, job, request, request.payload_hash()))
        marks.append(time.perf_counter())
        await driver.follow(job)
        decoded, arrived, news = await _outcome(pushed)
        assert news.blob is not None, news
        asked = time.perf_counter()
        await driver.download(news.blob)
        fetched = time.perf_counter()
        await driver.ask(lambda n: m.Release(n, job))
        released = time.perf_counter()
        prepare, quote, put, submit = ((after - before) * 1000 for before, after in pairwise(marks))
        held, encode = float(news.timings["held_ms"]), float(news.timings["encode_ms"])
        return Stages(
            prepare=prepare,
            quote=quote,
            put=put,
            submit=submit,
            begin=(decoded - marks[-1]) * 1000 - held,
            reports=held - _engine_ms(news.timings),
            encode=encode,
            deliver=(arrived - decoded) * 1000 - encode,
            fetch=(fetched - asked) * 1000,
            release=(released - fetched) * 1000,
        )

    def _options(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "steps": self._steps,
            "true_cfg_scale": 1.0,
            "align": False,  # the bare engine lays nothing over its picture
            "width": SIDE,
            "height": SIDE,
            "previews": self._previews,
        }

    def _next_picture(self) -> bytes:
        self._number += 1
        picture = self._demo.copy()
        picture.putpixel((0, 0), (self._number % 256, self._number // 256, int(self._previews)))
        target = io.BytesIO()
        picture.save(target, "PNG")
        return target.getvalue()


async def _outcome(pushed: asyncio.Queue[tuple[float, m.Message]]) -> tuple[float, float, m.Result]:
    """When the news of the engine's last unit came, when the outcome came, and the outcome."""
    decoded = 0.0
    while True:
        arrived, news = await pushed.get()
        if isinstance(news, m.Result):
            return decoded, arrived, news
        if isinstance(news, m.Event) and news.phase == "decode":
            decoded = arrived


def _engine_ms(timings: dict[str, Any]) -> float:
    """Milliseconds of the engine's own phases."""
    return sum(
        float(timings.get(f"{phase}_ms", 0.0)) for phase in ("encode_prompt", "encode_image", "denoise", "decode")
    )

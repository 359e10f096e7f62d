"""The parts of the benchmark: pages beside streams, large uploads, and one edit. Each returns figures as JSON."""

from __future__ import annotations

import io
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from wire_bench.child import child
from wire_bench.daemon import MODEL_ENGINE, Daemon
from wire_bench.machine import Neighbours
from wire_bench.spread import Figure, Spread, quantile

from web_bench.followers import serve_followers
from web_bench.gateway import Gateway
from web_bench.one_edit import Editor
from web_bench.pages import Mark, Seen, serve_pages
from web_bench.plan import Plan
from web_bench.streams import Streamed, serve_streams
from web_bench.uploads import Uploaded, serve_uploads

Figures = dict[str, Any]
Tick = Callable[[], None]
"""Called after each round."""
_PACED = "web_bench.paced_engine:load"
_FILES = 4096
_REST_S = 1.0
"""Seconds that the last news of a round may be on their way."""


def measure_pages(plan: Plan, home: Path, tick: Tick) -> Figures:
    """Event latency of open pages, small requests and the gateway's memory, beside edits that stream pictures."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_FILES, hard)), hard))
    with Daemon(home, _PACED) as daemon, Gateway(home, daemon.key) as gateway:
        users = [gateway.enrol(f"user-{number}") for number in range(plan.users)]
        tokens, keys = [token for token, _ in users], [key for _, key in users]
        before = gateway.memory("VmRSS")
        with (
            child(serve_pages, gateway.port, tokens, plan.pages) as pages,
            child(serve_followers, keys) as followers,
            child(serve_streams, gateway.port, tokens, plan.streams, plan.steps, _picture()) as streams,
        ):
            opened = gateway.memory("VmRSS")
            rounds: list[Figures] = []
            for _ in range(plan.rounds):
                for asked in (pages, followers):  # what was before does not count
                    asked.send("take")
                    asked.recv()
                neighbours, used = Neighbours(), sum(gateway.process.cpu_times()[:2])
                began = time.monotonic()
                streams.send(plan.seconds)
                streamed: Streamed = streams.recv()
                took = time.monotonic() - began
                busy = sum(gateway.process.cpu_times()[:2]) - used
                time.sleep(_REST_S)
                pages.send("take")
                followers.send("take")
                seen, direct = pages.recv(), followers.recv()
                rounds.append(
                    {
                        **_latencies(seen, direct),
                        "health_ms": asdict(Spread.of(streamed.health_ms)),
                        "completed": streamed.completed,
                        "partial_pictures": streamed.partial,
                        "gateway_cores": round(busy / took, 2),
                        "gateway_rss_bytes": gateway.memory("VmRSS"),
                        "other_cores": neighbours.cores(),
                    }
                )
                tick()
            return {
                "users": plan.users,
                "pages": plan.pages,
                "streams": plan.streams,
                "rss_before_bytes": before,
                "rss_open_bytes": opened,
                "rss_peak_bytes": gateway.memory("VmHWM"),
                "event_p50_ms": _figure(row["event_ms"]["p50"] for row in rounds),
                "event_p99_ms": _figure(row["event_ms"]["p99"] for row in rounds),
                "health_p99_ms": _figure(row["health_ms"]["p99"] for row in rounds),
                "rounds": rounds,
            }


def _latencies(seen: Seen, direct: dict[Mark, float]) -> Figures:
    """How long after the Python client each page of the same user knew of a mark, or of one that followed it.

    Where steps are faster than pages are told of them, a page hears the latest only. ``unheard`` counts marks after
    which a page heard nothing of their job.
    """
    order: dict[str, list[Mark]] = {}
    for mark in sorted(direct, key=direct.__getitem__):
        order.setdefault(mark[0], []).append(mark)
    owners = {mark[0]: user for marks, user in zip(seen.marks, seen.users, strict=True) for mark in marks}
    late: list[float] = []
    unheard = 0
    for marks, user in zip(seen.marks, seen.users, strict=True):
        for job, known in order.items():
            if owners.get(job) != user:
                continue
            heard = math.inf
            for mark in reversed(known):
                heard = min(heard, marks.get(mark, math.inf))
                if heard == math.inf:
                    unheard += 1
                else:
                    late.append((heard - direct[mark]) * 1000)
    return {
        "event_ms": asdict(Spread.of(late)),
        "events": len(direct),
        "unheard": unheard,
        "statuses": seen.statuses,
    }


def measure_uploads(plan: Plan, home: Path, tick: Tick) -> Figures:
    """Small requests while one user sends pictures of ``upload_bytes``."""
    with Daemon(home, _PACED) as daemon, Gateway(home, daemon.key) as gateway:
        token, _ = gateway.enrol("user-0")
        picture = _picture()
        picture += bytes(plan.upload_bytes - len(picture) - 8)
        rounds: list[Figures] = []
        with child(serve_uploads, gateway.port, token, picture) as uploads:
            for _ in range(plan.rounds):
                neighbours = Neighbours()
                uploads.send(plan.uploads)
                uploaded: Uploaded = uploads.recv()
                rounds.append(
                    {
                        "seconds": _median(uploaded.seconds),
                        "health_ms": asdict(Spread.of(uploaded.health_ms)),
                        "other_cores": neighbours.cores(),
                    }
                )
                tick()
            return {
                "bytes": plan.upload_bytes,
                "rss_peak_bytes": gateway.memory("VmHWM"),
                "seconds": _figure(row["seconds"] for row in rounds),
                "health_p99_ms": _figure(row["health_ms"]["p99"] for row in rounds),
                "rounds": rounds,
            }


def measure_edit(plan: Plan, home: Path, tick: Tick) -> Figures:
    """What the gateway adds to one edit of one step, over a kept connection and over a new one."""
    with Daemon(home, MODEL_ENGINE) as daemon, Gateway(home, daemon.key) as gateway:
        token, key = gateway.enrol("user-0")
        editor = Editor(key, gateway.port, token)
        editor.pairs(plan.warm_up)
        rounds: list[Figures] = []
        for _ in range(plan.rounds):
            neighbours = Neighbours()
            pairs = editor.pairs(plan.edits)
            rounds.append(
                {
                    "client_ms": _median([pair.client for pair in pairs]),
                    "kept_ms": _median([pair.kept for pair in pairs]),
                    "new_ms": _median([pair.new for pair in pairs]),
                    "added_ms": _median([pair.kept - pair.client for pair in pairs]),
                    "added_new_ms": _median([pair.new - pair.client for pair in pairs]),
                    "ratio": _median([pair.kept / pair.client for pair in pairs]),
                    "other_cores": neighbours.cores(),
                }
            )
            tick()
    names = ("client_ms", "kept_ms", "new_ms", "added_ms", "added_new_ms", "ratio")
    return {**{name: _figure(row[name] for row in rounds) for name in names}, "rounds": rounds}


def _picture() -> bytes:
    target = io.BytesIO()
    Image.effect_noise((512, 512), 60).convert("RGB").save(target, "PNG")
    return target.getvalue()


def _median(samples: Sequence[float]) -> float:
    return round(quantile(samples, 0.5), 3)


def _figure(rounds: Any) -> Figures:
    return asdict(Figure.of(list(rounds)))

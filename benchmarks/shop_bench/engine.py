"""The engine of a worker beside which a thread writes down how much memory the process has."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil
import torch
from part_runs.card import card_used
from serve_bench.engine import random_engine
from serve_bench.watch import REPORT, write_line

from qied.engine import serving
from qied.engine.engine import Engine
from qied.link.launch import LaunchOrder
from qied.progress import OnProgress

_SAMPLE_S = 0.5


def load(order: LaunchOrder, on_progress: OnProgress) -> Engine:
    """Load the files of the order."""
    return _sampled(order, serving.load(order, on_progress), None)


def load_random(order: LaunchOrder, on_progress: OnProgress) -> Engine:
    """Build the full-size model of the order's plan from random weights; LoRAs and upscalers are the order's files."""
    before = card_used()
    return _sampled(order, random_engine(order, on_progress), before)


def _sampled(order: LaunchOrder, engine: Engine, before: int | None) -> Engine:
    report = Path(os.environ[REPORT])
    run = order.execution
    planned = {"budget_bytes": order.budget_bytes, "fixed_bytes": order.fixed_bytes, "max_active": order.max_active}
    blocks = {"resident_blocks": run.resident_blocks, "blocks": run.total_blocks, "decode_tile_px": run.decode_tile_px}
    write_line(report, {**planned, **blocks, "weights_bytes": engine.weights_bytes})
    threading.Thread(target=_sample, args=(report, before), name="samples", daemon=True).start()
    return engine


def _sample(report: Path, before: int | None) -> None:
    """A line now and then: bytes of the process in the host, and at most on the card since it began.

    The host's are those that nobody shares: files that are mapped come and go as the system likes.
    """
    process = psutil.Process()
    while True:
        memory = process.memory_info()
        line: dict[str, float | int] = {"at": time.time(), "host_bytes": memory.rss - getattr(memory, "shared", 0)}
        if before is not None:
            line["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
            line["beside_bytes"] = card_used() - before - torch.cuda.memory_reserved()
        write_line(report, line)
        time.sleep(_SAMPLE_S)

"""Runs the parts of a benchmark one after the other, each in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from part_runs.part import Part, Recorder, said
from part_runs.report import Report

_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_ENDING_S = 20.0
_NO_TIME = "There was no time left."


def run_parts(parts: Sequence[Part], setting: Any, report: Report, device: str, seconds: float) -> None:
    """Run ``parts`` and record their figures in ``report``; a part that fails says so there, and the next one runs.

    After ``seconds`` the part that runs is stopped, and no other one begins: those keep what an earlier run gave.
    """
    deadline = time.monotonic() + seconds
    for part in parts:
        left = deadline - time.monotonic()
        if left <= 0:
            print(f"{part.name}: {_NO_TIME}", file=sys.stderr, flush=True)
            continue
        print(f"{part.name}: {part.title}", file=sys.stderr, flush=True)
        report.begin(part.name, device)
        started = time.monotonic()
        error = _in_child(part, setting, partial(report.put, part.name), deadline)
        report.end(part.name, time.monotonic() - started, error)
        print(f"{part.name}: {error or 'done'}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _in_child(part: Part, setting: Any, put: Callable[[tuple[str, ...], Any], None], deadline: float) -> str | None:
    """Run one part to its end or the deadline; returns what went wrong."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="qied-compiled-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_serve, args=(there, part, setting, folder), daemon=False)
        process.start()
        there.close()
        try:
            error = _read(here, put, deadline)
            if error == _NO_TIME:
                process.terminate()
            return error
        except EOFError:
            process.join()
            return f"The process ended early, with status {process.exitcode}."
        finally:
            here.close()
            process.join(timeout=_ENDING_S)
            if process.is_alive():
                process.kill()
                process.join()


def _read(pipe: Connection, put: Callable[[tuple[str, ...], Any], None], deadline: float) -> str | None:
    while pipe.poll(max(0.0, deadline - time.monotonic())):
        path, value = pipe.recv()
        if path is None:
            error: str | None = value
            return error
        put(path, value)
    return _NO_TIME


def _serve(pipe: Connection, part: Part, setting: Any, folder: str) -> None:
    """In the child: run the part, and send its figures and how it ended."""
    # Before torch is imported: as a worker of the daemon starts.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if part.fresh_caches:
        os.environ.update(dict.fromkeys(_CACHES, folder))
    # So that what a part started is stopped with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_NO_TIME))
    error: str | None = None
    try:
        module, _, function = part.run.partition(":")
        run = getattr(importlib.import_module(module), function)
        run(setting, Recorder(lambda path, value: pipe.send((path, value))))
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - the report says it, and the other parts run
        traceback.print_exc()
        error = said(problem)
    # Nobody reads any more where the time is up.
    with suppress(BrokenPipeError):
        pipe.send((None, error))

"""Work in a process of its own that is asked for, one answer at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

Serve = Callable[..., None]
"""Runs in the child: gets the pipe's end and the arguments, answers what it reads from the pipe, ends at None."""


@contextmanager
def child(serve: Serve, *arguments: object) -> Iterator[Connection]:
    """Start ``serve`` in a new process; the pipe to it, once it has said that it is ready."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        yield here
        here.send(None)
    except EOFError:
        raise SystemExit(f"{serve.__name__} ended early; see above.") from None
    finally:
        here.close()
        process.join(timeout=10)
        process.kill()


def questions(pipe: Connection) -> Iterator[Any]:
    """In the child: say ready, then what is asked until the end."""
    pipe.send("ready")
    while (question := pipe.recv()) is not None:
        yield question

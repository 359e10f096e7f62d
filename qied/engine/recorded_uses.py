"""What a recorded launch uses and nobody else may keep as long: plans of a library's kernels, and their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_uses: ContextVar[list[object] | None] = ContextVar("recorded uses", default=None)


@contextmanager
def collected_uses() -> Iterator[list[object]]:
    """Collect what is held by ``hold`` meanwhile; whoever keeps the list keeps all of it."""
    found: list[object] = []
    token = _uses.set(found)
    try:
        yield found
    finally:
        _uses.reset(token)


def hold(used: object) -> None:
    """Keep ``used`` for as long as the record lasts that is being made; without one, do nothing."""
    collecting = _uses.get()
    if collecting is not None:
        collecting.append(used)

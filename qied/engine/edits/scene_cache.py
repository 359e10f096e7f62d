"""What the encoders gave, kept between the turns of a session: least recently used first out, within limits."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Literal, Protocol, TypeVar

Kind = Literal["reference", "prompt", "vision"]


class Sized(Protocol):
    """A cached value that knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that it holds."""
        ...


V = TypeVar("V", bound=Sized)

KEPT_S = 300.0
"""Seconds without use after which a value is dropped.

A next turn comes within minutes. Without this limit a worker that gets ever new pictures grows until its cache is full,
which on a CPU takes hours and looks like a leak.
"""


def _nothing() -> None:
    """A cache that shares its limit with no other need not tell."""


class SceneCache:
    """Encoder results of one session on one engine; losing any of them costs time, never a different result.

    ``reference`` holds packed latents by (image hash, size), ``prompt`` embeddings by (prompt, ordered image hashes),
    ``vision`` vision features by (image hash, size). ``hits`` and ``misses`` count look-ups by kind. ``on_growth`` is
    called after a value was put in. ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        limit_bytes: int,
        on_growth: Callable[[], None] = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit_bytes = limit_bytes
        self._on_growth = on_growth
        self._clock = clock
        self.bytes_used = 0
        self.hits: Counter[Kind] = Counter()
        self.misses: Counter[Kind] = Counter()
        self._entries: OrderedDict[tuple[Kind, Hashable], Sized] = OrderedDict()
        self._used_at: dict[tuple[Kind, Hashable], float] = {}

    def get(self, kind: Kind, key: Hashable, expected: type[V]) -> V | None:
        """Return what is kept under the key and count the look-up."""
        value = self._entries.get((kind, key))
        if value is None:
            self.misses[kind] += 1
            return None
        assert isinstance(value, expected)
        self.hits[kind] += 1
        self._use((kind, key))
        return value

    def put(self, kind: Kind, key: Hashable, value: Sized) -> None:
        """Keep a value, dropping the least recently used ones; one larger than the limit is not kept."""
        self._drop((kind, key))
        if value.nbytes > self.limit_bytes:
            return
        while self.bytes_used + value.nbytes > self.limit_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[kind, key] = value
        self.bytes_used += value.nbytes
        self._use((kind, key))
        self._on_growth()

    def drop_unused(self) -> None:
        """Forget what was not used for ``KEPT_S``."""
        last = self._clock() - KEPT_S
        for entry in [entry for entry in self._entries if self._used_at[entry] < last]:
            self._drop(entry)

    def clear(self) -> None:
        """Forget every value; the counters stay."""
        self._entries.clear()
        self._used_at.clear()
        self.bytes_used = 0

    def close(self) -> None:
        """Forget every value, and keep none that an edit in progress may still bring."""
        self.clear()
        self.limit_bytes = -1

    def _use(self, entry: tuple[Kind, Hashable]) -> None:
        self._entries.move_to_end(entry)
        self._used_at[entry] = self._clock()

    def _drop(self, entry: tuple[Kind, Hashable]) -> None:
        value = self._entries.pop(entry, None)
        self._used_at.pop(entry, None)
        if value is not None:
            self.bytes_used -= value.nbytes


_SCOPES = 64
"""Sessions whose caches are kept at once."""


class SceneCaches:
    """A cache for each scope; all share one byte limit, and the least recently used scope goes first.

    The limit holds at all times: what edits put in while they run takes the room of the others' caches. What was not
    used for ``KEPT_S`` goes when the next edit begins.
    """

    def __init__(self, limit_bytes: int, scopes: int = _SCOPES, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_bytes = limit_bytes
        self._clock = clock
        self._scopes = scopes
        self._caches: OrderedDict[str, SceneCache] = OrderedDict()

    @property
    def bytes_used(self) -> int:
        """Bytes of device memory that all caches hold."""
        return sum(cache.bytes_used for cache in self._caches.values())

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes that have a cache, the least recently used first."""
        return tuple(self._caches)

    def of(self, scope: str | None) -> SceneCache:
        """Return the cache of a scope, which is now the most recently used; for None one that keeps nothing."""
        if scope is None:
            return SceneCache(0)
        for cache in self._caches.values():
            cache.drop_unused()
        if scope not in self._caches:
            self._caches[scope] = SceneCache(self.limit_bytes, lambda: self._make_room(scope), self._clock)
        self._make_room(scope)
        return self._caches[scope]

    def drop(self, scope: str) -> None:
        """Forget all values of a scope, and those that its edits in progress may still bring."""
        if (cache := self._caches.pop(scope, None)) is not None:
            cache.close()

    def _make_room(self, scope: str) -> None:
        self._caches.move_to_end(scope)
        while len(self._caches) > 1 and (len(self._caches) > self._scopes or self.bytes_used > self.limit_bytes):
            _, dropped = self._caches.popitem(last=False)
            dropped.close()

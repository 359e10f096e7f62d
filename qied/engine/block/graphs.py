"""CUDA graphs of blocks: a block's launches are captured the second time, and replayed from then on."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
import torch

from qied.engine.device_errors import is_exhausted

_uses: ContextVar[list[object] | None] = ContextVar("recorded uses", default=None)


@contextmanager
def collected_uses() -> Iterator[list[object]]:
    """Collect everything passed to ``hold`` inside; keeping the list keeps all of it alive."""
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


Launch = Callable[[], None]
GRAPHS = 960
"""Graphs that are kept: those of 60 blocks for 16 shapes of an edit; ``planning.layout.calibration`` counts them."""
_REMEMBERED = 4 * GRAPHS


class Runner(Protocol):
    """Runs what a block launches."""

    def run(self, key: Hashable, launch: Launch) -> None:
        """Run ``launch``; ``key`` holds everything that its kernels depend on: addresses, shapes, numbers."""


class Direct:
    """Runs everything as it comes."""

    def run(self, key: Hashable, launch: Launch) -> None:
        launch()


class Recorder(Protocol):
    """Records a launch instead of running it."""

    def record(self, launch: Launch) -> Launch:
        """Return a function that replays ``launch``; raises RuntimeError where it cannot be recorded."""

    def make_room(self) -> None:
        """Let go of memory that nothing uses: while recording, none can be taken back."""

    def forget(self) -> None:
        """Give back the memory that records share, once they are all gone."""


class BlockGraphs:
    """Keeps the records that were used last, at most ``limit`` of them.

    The first time a launch runs as it is, which tells libraries what kernels they need: loading those cannot be
    recorded. A launch that cannot be recorded at all runs as it is every time; where memory does not suffice for it,
    nothing is recorded any more.
    """

    def __init__(self, recorder: Recorder, limit: int = GRAPHS) -> None:
        self._recorder = recorder
        self._limit = limit
        self._recording = True
        self._records: OrderedDict[Hashable, Launch] = OrderedDict()
        self._tried: OrderedDict[Hashable, bool] = OrderedDict()
        """Launches that ran, and whether recording them was tried since."""

    def __len__(self) -> int:
        """Records that are kept."""
        return len(self._records)

    def run(self, key: Hashable, launch: Launch) -> None:
        record = self._records.get(key) or self._made(key, launch)
        if record is None:
            launch()
            return
        self._records.move_to_end(key)
        record()

    def clear(self) -> None:
        """Give the memory of all records back; they are captured again when their launches recur."""
        self._records.clear()
        self._tried.clear()
        self._recorder.forget()

    def _made(self, key: Hashable, launch: Launch) -> Launch | None:
        if not self._recording:
            return None
        if key not in self._tried:
            self._note(key, tried=False)
            return None
        if self._tried[key]:
            return None
        self._note(key, tried=True)
        record = self._recorded(launch)
        if record is None:
            return None
        self._tried.pop(key, None)
        self._records[key] = record
        while len(self._records) > self._limit:
            self._records.popitem(last=False)
        return record

    def _recorded(self, launch: Launch) -> Launch | None:
        """Record a launch, a second time with more room where memory ran out; None where that does not help."""
        for room_was_made in (False, True):
            try:
                return self._recorder.record(launch)
            except RuntimeError as error:
                if is_exhausted(error) and not room_was_made:
                    self._recorder.make_room()
                    continue
                _warn(error)
                if is_exhausted(error):
                    self.clear()
                    self._recording = False
                return None
        return None

    def _note(self, key: Hashable, *, tried: bool) -> None:
        self._tried[key] = tried
        self._tried.move_to_end(key)
        while len(self._tried) > _REMEMBERED:
            self._tried.popitem(last=False)


@dataclass(frozen=True)
class _Replay:
    """Replays a graph, and keeps what its kernels need."""

    graph: Any
    uses: list[object]

    def __call__(self) -> None:
        self.graph.replay()


class GraphRecorder:
    """Records CUDA graphs on a stream of their own; they share one pool of memory.

    So what a launch allocates must be over when it returns: the next one gets the same memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()
        _load_libraries(device, self._stream)

    def record(self, launch: Launch) -> Launch:
        """See :class:`Recorder`. Kernels of other streams and threads keep running."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), collected_uses() as uses:
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                launch()
            except BaseException:
                _abandon(graph)
                raise
            graph.capture_end()
        return _Replay(graph, uses)

    def make_room(self) -> None:
        """See :class:`Recorder`; waits for the device."""
        torch.cuda.empty_cache()

    def forget(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()


def _abandon(graph: Any) -> None:
    """End a failed recording; torch's error about such a graph would hide the cause."""
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore")
        graph.capture_end()


def _load_libraries(device: torch.device, stream: Any) -> None:
    """Let cuBLAS take its workspace of a stream now: while recording, it would come from the graphs' pool."""
    with torch.cuda.device(device), torch.cuda.stream(stream):
        x = torch.zeros(16, 16, dtype=torch.bfloat16, device=device)
        torch.addmm(x[0], x, x)


def _warn(error: RuntimeError) -> None:
    structlog.get_logger(part="block graphs").warning(
        "a block could not be captured as a CUDA graph, running it without one", reason=str(error).splitlines()[0]
    )

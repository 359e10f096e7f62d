"""Time and memory of what runs on a device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import torch

Work = Callable[[], Any]


class Stopwatch:
    """Times work on ``device``: by the card's own events where it is one, else by the clock. Milliseconds and bytes.

    Memory of the CPU is not measured: None.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"

    def median(self, work: Work, repeats: int, warm_up: int) -> float:
        """The median of ``repeats`` calls, each from its first kernel to its last, with the device idle before it."""
        for _ in range(warm_up):
            work()
        return round(median(self._once(work) for _ in range(repeats)), 3)

    def together(self, work: Work, repeats: int, warm_up: int) -> float:
        """Milliseconds a call of ``repeats`` calls one after the other, with no wait between them."""
        for _ in range(warm_up):
            work()

        def all_of_them() -> None:
            for _ in range(repeats):
                work()

        return round(self._once(all_of_them) / repeats, 3)

    def consecutive(self, work: Work, repeats: int, warm_up: int) -> float:
        """The median of ``repeats`` calls one after the other, with no wait between: from one end to the next."""
        for _ in range(warm_up):
            work()
        self.synchronize()
        ends = [self._mark()]
        for _ in range(repeats):
            work()
            ends.append(self._mark())
        self.synchronize()
        if self._cuda:
            return round(median(one.elapsed_time(other) for one, other in pairwise(ends)), 3)
        return round(1000 * median(other - one for one, other in pairwise(ends)), 3)

    def wall(self, work: Work) -> float:
        """One call by the clock, until the device is idle again."""
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        return round((time.perf_counter() - started) * 1000, 3)

    def issue(self, work: Work) -> float:
        """How long the host takes to hand one call to an idle device."""
        self.synchronize()
        started = time.perf_counter()
        work()
        taken = (time.perf_counter() - started) * 1000
        self.synchronize()
        return round(taken, 3)

    def allocated(self) -> int | None:
        """Bytes of tensors on the card now."""
        return torch.cuda.memory_allocated(self.device) if self._cuda else None

    def forget_peaks(self) -> None:
        """Give back what is not held, and let the peaks of memory begin anew."""
        self.clear()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peaks(self, above: int | None) -> dict[str, int | None]:
        """Most bytes since then beyond ``above``: of tensors, and of what the allocator reserved."""
        if not self._cuda or above is None:
            return {"peak_tensors_bytes": None, "peak_reserved_bytes": None}
        self.synchronize()
        return {
            "peak_tensors_bytes": torch.cuda.max_memory_allocated(self.device) - above,
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self.device) - above,
        }

    def clear(self) -> None:
        """Give back everything that is not held."""
        gc.collect()
        if self._cuda:
            self.synchronize()
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self._cuda:
            torch.cuda.synchronize(self.device)

    def _mark(self) -> Any:
        """A moment of the device: an event of the card's, or the clock."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _once(self, work: Work) -> float:
        if not self._cuda:
            return self.wall(work)
        self.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        self.synchronize()
        return float(begin.elapsed_time(end))

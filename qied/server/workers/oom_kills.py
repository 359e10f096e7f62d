"""The kernel's count of processes that it killed for lack of memory, and which ends of workers it explains (Linux)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qied.hardware.cgroups import oom_counter, read_membership

MACHINE_COUNTER = Path("/proc/vmstat")


@dataclass(frozen=True)
class Mark:
    """A moment: the kernel's count, and how many of those kills had explained the end of a worker by then."""

    killed: int | None
    explained: int


class OomKills:
    """One count for all workers, in which each kill explains one end.

    ``counter`` is that of the control group, which counts our own processes, where there is one; else the machine's.
    """

    def __init__(self, counter: Path | None = None) -> None:
        self._counter = counter or oom_counter(read_membership()) or MACHINE_COUNTER
        self._explained = 0

    def mark(self) -> Mark:
        """Now."""
        return Mark(count_oom_kills(self._counter), self._explained)

    def explains(self, since: Mark) -> bool:
        """Whether the kernel has killed a process since then whose end was not explained yet; if so, now it is."""
        now = count_oom_kills(self._counter)
        if now is None or since.killed is None:
            return False
        left = now - since.killed - (self._explained - since.explained)
        self._explained += left > 0
        return left > 0


def count_oom_kills(counter: Path) -> int | None:
    """Processes that the kernel has killed for lack of memory by now, or None where it does not say."""
    try:
        for line in counter.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except OSError:
        pass
    return None

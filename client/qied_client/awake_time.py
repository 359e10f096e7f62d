"""Time for those who wait for others: what passed while they were not run themselves does not count."""

from __future__ import annotations


class AwakeTime:
    """Milliseconds in which its owner was awake: it calls ``tick`` again and again, in its usual interval.

    After a pause of the owner (a stopped process, a frozen container, a paused machine) the next tick comes far too
    late. Such a tick counts as ``most_ms``, however long the pause was: the owner heard nothing because it did not
    listen, not because the other side was silent. Ticks that are always late still add up, so no wait becomes endless.
    """

    def __init__(self, most_ms: int, now_ms: int) -> None:
        self.most_ms = most_ms
        self._ticked_ms = now_ms
        self._counted_ms = 0

    def at(self, now_ms: int) -> int:
        """The time that has counted by ``now_ms`` (of any monotonic clock); it never goes back."""
        return self._counted_ms + min(max(0, now_ms - self._ticked_ms), self.most_ms)

    def tick(self, now_ms: int) -> int:
        """The same, by an owner that has just looked around: from here on the next interval counts."""
        self._counted_ms = self.at(now_ms)
        self._ticked_ms = max(self._ticked_ms, now_ms)
        return self._counted_ms

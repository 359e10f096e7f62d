"""Streams of a device that only note what they are told."""

from torch import Tensor

from qied.engine.copying.streams import Parts


class Recorded:
    """Streams that note in order what waits for what; the events of two slots are e0 to e3: copied, used, and again."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._events = 0

    def event(self) -> str:
        self._events += 1
        return f"e{self._events - 1}"

    def copy(self, target: Tensor, parts: Parts) -> None:
        self.log.append("copy")
        for offset, host in parts:
            target[offset : offset + len(host)].copy_(host)

    def copies_wait(self, event: str) -> None:
        self.log.append(f"copies wait for {event}")

    def record_copies(self, event: str) -> None:
        self.log.append(f"copies reach {event}")

    def computation_waits(self, event: str) -> None:
        self.log.append(f"computation waits for {event}")

    def record_computation(self, event: str) -> None:
        self.log.append(f"computation reaches {event}")

"""Whether a daemon can start edits now, and why not, from its status report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from qied_client.protocol import messages as m

Code = Literal["ready", "stopping", "paused", "loading", "unloaded", "restarting", "trouble", "unreachable"]

REASONS: Final[dict[Code, str]] = {
    "ready": "Edits start at once, or when it is their turn.",
    "stopping": "The daemon is stopping and accepts no more jobs.",
    "paused": "The queue is paused by the owner: edits wait until 'qied resume'.",
    "loading": "The model is being loaded.",
    "unloaded": "The model is unloaded; the next edit loads it, and so does 'qied load'.",
    "restarting": "The worker ended and is started again.",
    "trouble": "The worker cannot work; 'qied ps' shows why.",
    "unreachable": "The daemon does not answer.",
}


@dataclass(frozen=True)
class Readiness:
    """``reason`` is a sentence for people, and may name files and cards; ``public`` leaves those out."""

    code: Code
    reason: str

    @property
    def ready(self) -> bool:
        """Whether a worker has the model's weights and the queue goes on."""
        return self.code == "ready"

    @property
    def status(self) -> int:
        """The status of an answer over HTTP."""
        return 200 if self.ready else 503

    def public(self) -> dict[str, object]:
        """For everybody: the code and what it means."""
        return {"ready": self.ready, "code": self.code, "reason": REASONS[self.code]}

    def full(self) -> dict[str, object]:
        """For who may see the status report."""
        return {"ready": self.ready, "code": self.code, "reason": self.reason}


def of(code: Code) -> Readiness:
    """The readiness with the usual words."""
    return Readiness(code, REASONS[code])


def readiness(report: m.StatusReport) -> Readiness:
    """Whether edits can start, and if not why: the trouble that ``qied ps`` shows, where there is one."""
    if report.draining or report.finishing:
        return of("stopping")
    if report.paused:
        return of("paused")
    states = {worker.state for worker in report.workers}
    if "ready" in states:
        return of("ready")
    trouble = _first(worker.trouble for worker in report.workers)
    if trouble:
        return Readiness("trouble", trouble)
    if "lost" in states:
        return of("restarting")
    return of("unloaded" if states == {"unloaded"} else "loading")


def _first(troubles: Iterable[str]) -> str:
    return next(filter(None, troubles), "")

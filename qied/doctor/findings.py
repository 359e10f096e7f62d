"""The doctor's findings with their status, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Status(Enum):
    """How a check ended. What was skipped was not looked at, so it has not passed."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


_SEVERITY = {Status.OK: 0, Status.SKIPPED: 1, Status.WARNING: 2, Status.ERROR: 3}


@dataclass(frozen=True)
class Verdict:
    """The answer of one check: what was found, why that matters here, and what to do.

    An empty ``why`` stands for the check's own. ``remedy`` is given for warnings and errors. ``cause`` is the id of
    the check that tells the same in full, where there is one.
    """

    status: Status
    message: str
    remedy: str = ""
    why: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict under the stable id of its check."""

    id: str
    status: Status
    message: str
    remedy: str = ""
    why: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of ``findings`` in the document of ``qied doctor --json``."""
        return {
            "id": self.id,
            "status": self.status.value,
            "message": self.message,
            "remedy": self.remedy,
            "why": self.why,
        }


@dataclass(frozen=True)
class Summary:
    """How many findings there are of each status, and whether a check of the doctor itself broke."""

    ok: int
    warnings: int
    errors: int
    skipped: int
    broken: int = 0

    @classmethod
    def of(cls, findings: Sequence[Finding], broken: int = 0) -> Summary:
        """Count them; ``broken`` checks are among the errors."""
        count = {status: sum(finding.status is status for finding in findings) for status in Status}
        return cls(count[Status.OK], count[Status.WARNING], count[Status.ERROR], count[Status.SKIPPED], broken)

    def exit_status(self, strict: bool) -> int:
        """0 healthy, 1 warnings where ``strict``, 2 errors, 3 the doctor itself failed."""
        if self.broken:
            return 3
        if self.errors:
            return 2
        return 1 if strict and self.warnings else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "warning": self.warnings,
            "error": self.errors,
            "skipped": self.skipped,
            "broken": self.broken,
            "healthy": not (self.errors or self.broken),
        }


def ok(message: str) -> Verdict:
    """All is well; ``message`` says what was seen."""
    return Verdict(Status.OK, message)


def warning(message: str, remedy: str, why: str = "") -> Verdict:
    """It works, but worse than it could."""
    return Verdict(Status.WARNING, message, remedy, why)


def error(message: str, remedy: str, why: str = "", cause: str = "") -> Verdict:
    """It does not work like this."""
    return Verdict(Status.ERROR, message, remedy, why, cause)


def skipped(reason: str) -> Verdict:
    """Nothing was looked at, for this reason."""
    return Verdict(Status.SKIPPED, reason)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Several verdicts of one check as one: the worst status, and what those of that status say."""
    status = max((verdict.status for verdict in verdicts), key=lambda status: _SEVERITY[status])
    said = [verdict for verdict in verdicts if verdict.status is status]
    return Verdict(
        status,
        " ".join(dict.fromkeys(verdict.message for verdict in said)),
        " ".join(dict.fromkeys(verdict.remedy for verdict in said if verdict.remedy)),
        next((verdict.why for verdict in said if verdict.why), ""),
    )

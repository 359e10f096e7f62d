"""Runs checks one after the other; one that breaks is reported as an error, and the others still run."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from qied_client.errors import QiedError

from qied.config import Config
from qied.doctor.facts import Facts
from qied.doctor.findings import Finding, Status, Summary, Verdict, error, skipped

NOT_THIS_MACHINE = "Not checked: the snapshot is of another machine."
NO_CONFIG = "Not checked: the configuration has to be corrected first."


@dataclass(frozen=True)
class Check:
    """One question to a machine under a stable ``id``; ``why`` says to people what depends on the answer.

    ``local`` checks look at files and ports, so at no recorded machine; ``configured`` ones need a valid
    configuration.
    """

    id: str
    why: str
    ask: Callable[[Facts], Verdict]
    local: bool = False
    configured: bool = False


@dataclass(frozen=True)
class Checkup:
    """All findings in the order of the checks. ``traces`` holds what broke inside the doctor, by id."""

    findings: tuple[Finding, ...]
    traces: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        return Summary.of(self.findings, len(self.traces))

    def of(self, status: Status) -> list[Finding]:
        """The findings of one status."""
        return [finding for finding in self.findings if finding.status is status]


def run_checks(checks: Iterable[Check], facts: Facts) -> Checkup:
    """Ask all checks; raises nothing."""
    findings, traces = [], {}
    for check in checks:
        verdict, trace = _verdict(check, facts)
        why = verdict.why or check.why
        findings.append(Finding(check.id, verdict.status, verdict.message, verdict.remedy, why, verdict.cause))
        if trace:
            traces[check.id] = trace
    return Checkup(tuple(findings), traces)


def joined(checkups: Sequence[Checkup]) -> Checkup:
    """Several check-ups as one."""
    return Checkup(
        tuple(finding for checkup in checkups for finding in checkup.findings),
        {identifier: trace for checkup in checkups for identifier, trace in checkup.traces.items()},
    )


def _verdict(check: Check, facts: Facts) -> tuple[Verdict, str]:
    if check.local and not facts.this_machine:
        return skipped(NOT_THIS_MACHINE), ""
    if check.configured and not isinstance(facts.config, Config):
        return skipped(NO_CONFIG), ""
    try:
        return check.ask(facts), ""
    except QiedError as problem:
        return error(problem.message, problem.remedy), ""
    except Exception as problem:  # noqa: BLE001 - a defect in one check must not hide what the others found
        said = f"This check itself failed: {type(problem).__name__}: {problem}"
        return error(said, "Report this with: qied doctor --bundle FILE", "It says nothing about the machine."), (
            traceback.format_exc()
        )

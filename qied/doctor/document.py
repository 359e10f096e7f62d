"""The document of ``qied doctor --json``, schema 1."""

from __future__ import annotations

from typing import Any

from qied_client.errors import QiedError

from qied.doctor.checkup import Checkup
from qied.doctor.facts import Facts
from qied.planning.plan import Plan, Refusal


def document(checkup: Checkup, facts: Facts) -> dict[str, Any]:
    """Findings, their sum, and the plan or the refusal; ``plan`` is null where nothing could be planned."""
    return {
        "schema": 1,
        "findings": [finding.to_json() for finding in checkup.findings],
        "summary": checkup.summary.to_json(),
        "plan": _plan(facts),
    }


def _plan(facts: Facts) -> dict[str, Any] | None:
    match facts.plan:
        case Plan() | Refusal():
            return facts.plan.to_json()
        case QiedError() as problem:
            return Refusal(problem.code, problem.message, problem.remedy).to_json()
    return None

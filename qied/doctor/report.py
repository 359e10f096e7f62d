"""The report for people: problems first, each with its reason and remedy; what works in a line or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qied_client.errors import QiedError
from qied_client.text import counted, size_text
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qied.doctor.checkup import Checkup
from qied.doctor.facts import Facts
from qied.doctor.findings import Finding, Status, Summary
from qied.hardware.snapshot import Snapshot
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


_REASONS = 2
"""Of a plan, the first: its precision, and where its blocks lie. `qied plan` has all of them."""
_LABEL_COLUMNS = 8
_STYLES = {
    Status.ERROR: ("error", "bold red"),
    Status.WARNING: ("warning", "bold yellow"),
    Status.OK: ("works", "bold green"),
    Status.SKIPPED: ("skipped", "bold dim"),
}
_AREAS = {
    "python": "Python",
    "package": "packages",
    "zmq": "encryption",
    "host": "memory",
    "config": "settings",
    "state": "state folder",
    "deep": "deep checks",
}
"""What people call the first word of an id; the others are called as they are."""


def show(console: Console, snapshot: Snapshot, checkup: Checkup, plan: Plan | None) -> None:
    """Print the report; it reads the same without colour."""
    parts: list[RenderableType] = [_machine(snapshot), ""]
    problems = checkup.of(Status.ERROR) + checkup.of(Status.WARNING)
    told = {finding.id for finding in problems}
    parts += [_pointer(finding) if finding.cause in told else _problem(finding) for finding in problems]
    if problems:
        parts.append("")
    parts.append(_rest(checkup, plan))
    console.print(Group(*parts))


def _machine(snapshot: Snapshot) -> Text:
    """The machine in one line."""
    cards = [
        gpu.name + (f" {size_text(gpu.memory_total_bytes)}" if gpu.memory_total_bytes else "") for gpu in snapshot.gpus
    ]
    parts = [" + ".join(cards) or "No NVIDIA card"]
    if snapshot.driver is not None:
        parts.append(f"driver {snapshot.driver.version}")
    if snapshot.torch is not None:
        parts.append(f"torch {snapshot.torch.version}")
    return Text(", ".join(parts), style="bold")


def _problem(finding: Finding) -> RenderableType:
    label, style = _STYLES[finding.status]
    table = _grid()
    said = Text.assemble((f"{finding.id}: ", "bold"), finding.message)
    table.add_row(Text(label, style=style), said)
    if finding.why:
        table.add_row(Padding(Text("why", style="dim"), (0, 0, 0, 2)), Text(finding.why, style="dim"))
    if finding.remedy:
        table.add_row(Padding(Text("do", style="green"), (0, 0, 0, 2)), Text(finding.remedy))
    return table


def _pointer(finding: Finding) -> RenderableType:
    """A finding that refers to another as its cause."""
    label, style = _STYLES[finding.status]
    table = _grid()
    said = Text.assemble((f"{finding.id}: ", "bold"), f"none until {finding.cause} is solved")
    table.add_row(Text(label, style=style), said)
    return table


def _rest(checkup: Checkup, plan: Plan | None) -> RenderableType:
    """The checks that passed, those not run, the plan, and the sum."""
    table = _grid()
    for status, note in ((Status.OK, ""), (Status.SKIPPED, ": not checked, so not passed (--json says why)")):
        label, style = _STYLES[status]
        if found := checkup.of(status):
            table.add_row(Text(label, style=style), Text(_areas(found, checkup.findings) + note))
    if plan is not None:
        table.add_row(Text("plan", style="bold"), Text(_planned(plan)))
        reasons = "; ".join(plan.reasons[:_REASONS])
        table.add_row(Padding(Text("why", style="dim"), (0, 0, 0, 2)), Text(reasons, style="dim"))
    table.add_row(Text("verdict", style="bold"), _verdict(checkup.summary))
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=_LABEL_COLUMNS)
    table.add_column(overflow="fold")
    return table


def _areas(found: Sequence[Finding], everything: Sequence[Finding]) -> str:
    """Findings by area: ``torch (3 of 5)`` where only a part of them is meant."""
    words = []
    for area in dict.fromkeys(finding.id.partition(".")[0] for finding in found):
        here = sum(finding.id.startswith(f"{area}.") for finding in found)
        total = sum(finding.id.startswith(f"{area}.") for finding in everything)
        words.append(_AREAS.get(area, area) + ("" if here == total else f" ({here} of {total})"))
    return ", ".join(words)


def _planned(plan: Plan) -> str:
    """What an edit will be like here."""
    work = plan.execution
    precision = plan.precision + (f" {plan.scaling}" if plan.scaling else "")
    streamed = work.total_blocks - work.resident_blocks
    blocks = f"{streamed} of {work.total_blocks} blocks streamed" if streamed else "all blocks stay on the card"
    if work.device == "cpu":
        precision, blocks = "on the CPU", f"{work.precision}"
    many = counted(plan.sessions.at_max_pixels, "edit")
    return (
        f"{plan.model}: {precision}, {blocks}, {size_text(plan.predicted_peak_bytes)} at the peak, results up to "
        f"{plan.max_pixels / 1e6:.1f} MP, {many} of that size at once."
    )


def _verdict(summary: Summary) -> Text:
    counts = [
        counted(count, word) if plural else f"{count} {word}"
        for count, word, plural in (
            (summary.errors, "error", True),
            (summary.warnings, "warning", True),
            (summary.ok, "passed", False),
            (summary.skipped, "skipped", False),
        )
        if count
    ]
    if summary.broken:
        words, style = "the doctor itself failed", "bold red"
    elif summary.errors:
        words, style = "not ready", "bold red"
    else:
        words, style = ("ready, with warnings", "bold yellow") if summary.warnings else ("ready", "bold green")
    return Text.assemble((words, style), f": {', '.join(counts)}")

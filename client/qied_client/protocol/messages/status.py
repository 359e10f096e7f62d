"""What the daemon is doing, and the orders of its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from qied_client.protocol import limits
from qied_client.protocol.fields import Body, Flag, Identifier, Later, ListOf, Maybe, Nested, OneOf, Text
from qied_client.protocol.message import Message
from qied_client.protocol.messages.checks import COUNT, ID, SIDE, STATES


@dataclass(frozen=True)
class Status(Message):
    """Ask what the daemon is doing. The machine's owner may ask for the ids of ``everyone``."""

    TYPE = b"STATUS"
    id: Annotated[int, COUNT]
    everyone: Annotated[bool, Later(Flag())] = False


@dataclass(frozen=True)
class JobRow:
    """One job in a status report; jobs of other users show no id."""

    user: Annotated[str, ID]
    job: Annotated[str | None, Maybe(ID)]
    state: Annotated[str, OneOf(STATES)]
    step: Annotated[int, COUNT]
    steps: Annotated[int, COUNT]
    width: Annotated[int, SIDE]
    height: Annotated[int, SIDE]
    place: Annotated[int | None, Maybe(COUNT)]
    starts_in_ms: Annotated[int | None, Maybe(COUNT)]


@dataclass(frozen=True)
class WorkerRow:
    """One worker's ledger in bytes: ``weights + state + arena + free`` is its budget.

    ``trouble`` is what keeps it from working, and what to do about that.
    """

    worker: Annotated[str, ID]
    state: Annotated[str, OneOf(("starting", "ready", "draining", "lost", "unloaded"))]
    device: Annotated[str, Text(limits.NAME_CHARS, empty=True)]
    budget: Annotated[int, COUNT]
    weights: Annotated[int, COUNT]
    sessions: Annotated[int, COUNT]
    arena: Annotated[int, COUNT]
    free: Annotated[int, COUNT]
    restarts: Annotated[int, COUNT]
    trouble: Annotated[str, Later(Text(limits.TROUBLE_BYTES, empty=True))] = ""


@dataclass(frozen=True)
class SessionRow:
    """One session in a status report; sessions of other users show no id."""

    user: Annotated[str, ID]
    session: Annotated[str | None, Maybe(ID)]
    turns: Annotated[int, COUNT]
    idle_ms: Annotated[int, COUNT]


@dataclass(frozen=True)
class StatusReport(Message):
    """What the daemon is doing: counts of all, and the first ``STATUS_ROWS`` rows of each table.

    ``finishing``: it accepts no more jobs and stops once those it has are done.
    """

    TYPE = b"STATUSREPORT"
    re: Annotated[int, COUNT]
    model: Annotated[str, Text(limits.NAME_CHARS)]
    precision: Annotated[str, Identifier(limits.NAME_CHARS)]
    uptime_ms: Annotated[int, COUNT]
    clients: Annotated[int, COUNT]
    waiting: Annotated[int, COUNT]
    running: Annotated[int, COUNT]
    stored: Annotated[int, COUNT]
    blob_bytes: Annotated[int, COUNT]
    blob_limit: Annotated[int, COUNT]
    draining: Annotated[bool, Flag()]
    workers: Annotated[tuple[WorkerRow, ...], ListOf(Nested(WorkerRow), 8)]
    jobs: Annotated[tuple[JobRow, ...], ListOf(Nested(JobRow), limits.STATUS_ROWS)]
    sessions: Annotated[tuple[SessionRow, ...], ListOf(Nested(SessionRow), limits.STATUS_ROWS)]
    paused: Annotated[bool, Later(Flag())] = False
    finishing: Annotated[bool, Later(Flag())] = False


@dataclass(frozen=True)
class Metrics(Message):
    """Ask for the daemon's figures; refused to everybody but the machine's owner."""

    TYPE = b"METRICS"
    id: Annotated[int, COUNT]


@dataclass(frozen=True)
class MetricsText(Message):
    """Answer to METRICS. The body is text in version 0.0.4 of Prometheus' format."""

    TYPE = b"METRICSTEXT"
    re: Annotated[int, COUNT]
    text: Annotated[bytes | memoryview, Body(0, limits.METRICS_BYTES)] = b""


CONTROLS = ("pause", "resume", "unload", "load", "stop", "stop_when_done")


@dataclass(frozen=True)
class Control(Message):
    """An order of the machine's owner to the daemon; refused to everybody else. Idempotent.

    ``pause`` and ``resume`` concern the start of jobs, ``unload`` and ``load`` the workers' processes and memory.
    """

    TYPE = b"CONTROL"
    id: Annotated[int, COUNT]
    action: Annotated[str, OneOf(CONTROLS)]


@dataclass(frozen=True)
class Controlled(Message):
    """Answer to CONTROL, and the jobs that there are now."""

    TYPE = b"CONTROLLED"
    re: Annotated[int, COUNT]
    action: Annotated[str, OneOf(CONTROLS)]
    running: Annotated[int, COUNT]
    waiting: Annotated[int, COUNT]

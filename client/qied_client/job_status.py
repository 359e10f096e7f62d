"""What the daemon knows of a job: a row of the list of jobs, and everything about one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from qied_client.protocol import messages as m

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    """One job in a list. Sizes are pixels, ``bytes`` those of the picture; times have a time zone, None: not yet.

    ``state`` is waiting, running, succeeded, failed, cancelled or poisoned. ``prompt`` is cut to its beginning here and
    whole in ``JobStatus``. ``step`` of ``steps`` are done. ``fetched``: a client has said that it has the picture, so
    it is kept only while there is room. ``code`` is that of the error where it did not succeed. ``number`` grows in the
    order in which jobs were accepted.
    """

    id: str
    number: int
    state: str
    prompt: str
    seed: int
    step: int
    steps: int
    width: int
    height: int
    precision: str
    preset: str
    accepted_at: datetime | None
    finished_at: datetime | None
    place: int | None
    starts_in_ms: int | None
    bytes: int
    fetched: bool
    session: str | None
    turn: int | None
    code: str

    @classmethod
    def of_info(cls, info: m.JobInfo) -> Self:
        """The row that came from the daemon."""
        return cls(**_row(info))

    @property
    def finished(self) -> bool:
        """Whether it has its outcome."""
        return self.state not in ("waiting", "running")


@dataclass(frozen=True, kw_only=True)
class JobStatus(JobSummary):
    """Everything about one job.

    ``gone``: its picture was released or has expired, but a session remembers it. ``message`` and ``remedy`` are those
    of the error where it did not succeed. ``loras`` are names and strengths.
    """

    true_cfg_scale: float
    schedule: str
    loras: tuple[tuple[str, float], ...]
    warnings: tuple[str, ...]
    message: str
    remedy: str
    media_type: str
    gone: bool
    drift: m.MeasuredDrift | None

    @classmethod
    def of(cls, fetched: m.Fetched) -> JobStatus:
        """The answer that came from the daemon."""
        row = _row(fetched.info)
        row["prompt"] = fetched.prompt or fetched.info.prompt
        return cls(
            **row,
            true_cfg_scale=fetched.true_cfg_scale,
            schedule=fetched.schedule,
            loras=tuple((lora.name, lora.strength) for lora in fetched.loras),
            warnings=fetched.warnings,
            message=fetched.message,
            remedy=fetched.remedy,
            media_type=fetched.media_type,
            gone=fetched.gone,
            drift=fetched.drift,
        )


def _row(info: m.JobInfo) -> dict[str, Any]:
    return {
        "id": info.job,
        "number": info.number,
        "state": info.state,
        "prompt": info.prompt,
        "seed": info.seed,
        "step": info.step,
        "steps": info.steps,
        "width": info.width,
        "height": info.height,
        "precision": info.precision,
        "preset": info.preset,
        "accepted_at": time_of(info.accepted_ms),
        "finished_at": time_of(info.finished_ms),
        "place": info.place,
        "starts_in_ms": info.starts_in_ms,
        "bytes": info.bytes,
        "fetched": info.fetched,
        "session": info.session,
        "turn": info.turn,
        "code": info.code,
    }


def time_of(milliseconds: int) -> datetime | None:
    """A time of the wire, in milliseconds since 1970, where 0 stands for none."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc) if milliseconds else None

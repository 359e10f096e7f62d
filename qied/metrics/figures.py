"""What the front counts. Labels come from closed sets, so that no client can make new series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics, generate_latest
from qied_client.errors import CODES, QiedError
from qied_client.protocol.message import cut_text

from qied.metrics.standing import Standing, StandingCollector

Direction = Literal["to_worker", "from_worker"]

OUTCOMES: Final = ("succeeded", "failed", "cancelled", "poisoned")
DIRECTIONS: Final[tuple[Direction, ...]] = ("to_worker", "from_worker")
CAUSES: Final = (
    "fault",
    "exit",
    "hung",
    "out_of_memory",
    "killed",
    "device_lost",
    "engine_broken",
    "front_gone",
    "not_started",
)
"""Why a worker ended: see ``server.workers.process``."""
STAGES: Final = {
    "encode_prompt_ms": "encode_text",
    "encode_image_ms": "encode_vae",
    "prepare_steps_ms": "prepare_steps",
    "denoise_ms": "denoise",
    "redraw_ms": "redraw",
    "decode_ms": "decode",
    "align_ms": "align",
    "upscale_ms": "upscale",
    "encode_ms": "encode_file",
}
"""A worker's timings of one edit, in milliseconds, and the stages that they are of."""
NO_PRESET: Final = "none"
OTHER_PRESET: Final = "other"
"""The preset of a job that an earlier run accepted under another profile."""
MOST_PRESETS: Final = 8
_NAME_BYTES: Final = 64
_PIXELS: Final = ((320_000, "0.3mp"), (1_100_000, "1mp"), (2_200_000, "2mp"), (4_400_000, "4mp"))
_MORE_PIXELS: Final = "above_4mp"
PIXEL_CLASSES: Final = (*(name for _, name in _PIXELS), _MORE_PIXELS)

_QUEUE_S: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_JOB_S: Final = (0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200)
_STEP_S: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_STAGE_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_COMMIT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_EDITS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32)


def pixels_class(pixels: int) -> str:
    """The class of a result's size: ``1mp`` is up to about one million pixels."""
    return next((name for most, name in _PIXELS if pixels <= most), _MORE_PIXELS)


class Figures:
    """The figures of one daemon, in a registry of their own. Every method may be called from any thread.

    ``profile`` is that of the model, ``presets`` are its presets, and ``facts`` the labels of ``qied_info``.
    """

    def __init__(self, profile: str, presets: Sequence[str], facts: Mapping[str, str]) -> None:
        # It would add a series to each that has the time when that began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._profile = cut_text(profile, _NAME_BYTES)
        self._presets = frozenset(presets[:MOST_PRESETS])
        self._jobs = self._counter("qied_jobs", "Jobs that ended.", "outcome", "profile")
        self._queue = self._histogram("qied_job_queue_seconds", "From a job's acceptance to its first start.", _QUEUE_S)
        self._run = self._histogram(
            "qied_job_seconds", "From the last start of a job to its stored result.", _JOB_S, "profile", "preset"
        )
        self._step = self._histogram(
            "qied_step_seconds",
            "One denoising step; the first of an edit, which has what is done once, is left out.",
            _STEP_S,
            "profile",
            "pixels_class",
        )
        self._stage = self._histogram("qied_stage_seconds", "Stages of edits that succeeded.", _STAGE_S, "stage")
        self._packed = self._histogram("qied_packed_edits", "Edits whose steps went together.", _EDITS)
        self._restarts = self._counter("qied_worker_restarts", "Workers that ended and were started again.", "cause")
        self._commit = self._histogram(
            "qied_journal_fsync_seconds", "Commits of the journal, each with its sync.", _COMMIT_S
        )
        self._rejected = self._counter("qied_rejected", "Requests of clients that were refused.", "code")
        self._previews = self._counter("qied_previews", "Previews that workers made.")
        self._link = self._counter("qied_link_bytes", "Bytes between the front and its workers.", "direction")
        Info("qied", "What runs here.", registry=self.registry).info(
            {name: cut_text(value, 2 * _NAME_BYTES) for name, value in facts.items()}
        )
        self._begin_at_zero()

    def ask(self, look: Callable[[], Standing]) -> None:
        """Have ``look`` asked at each scrape, from the scraping thread; to be called once."""
        self.registry.register(StandingCollector(look))

    def text(self) -> bytes:
        """All figures in Prometheus' text format. Blocks while the front is asked; raises what that raises."""
        return generate_latest(self.registry)

    def job_started(self, waited_ms: int) -> None:
        """A job has started for the first time."""
        self._queue.observe(max(0, waited_ms) / 1000)

    def job_ended(self, outcome: str, preset: str, ran_ms: int | None) -> None:
        """A job's outcome is stored; ``ran_ms``: since its last start, if it had one."""
        self._jobs.labels(outcome, self._profile).inc()
        if outcome == "succeeded" and ran_ms is not None:
            self._run.labels(self._profile, self._preset(preset)).observe(max(0, ran_ms) / 1000)

    def stages_done(self, timings: Mapping[str, object]) -> None:
        """A worker's timings of an edit that succeeded; those of no stage are left out."""
        for name, stage in STAGES.items():
            milliseconds = timings.get(name)
            if isinstance(milliseconds, (int, float)) and milliseconds >= 0:
                self._stage.labels(stage).observe(milliseconds / 1000)

    def stepped(self, pixels: int, step_ms: int | None, together: int, *, preview: bool) -> None:
        """A worker has done a unit: a step's time where it was measured, and how many edits' steps went together."""
        if step_ms is not None:
            self._step.labels(self._profile, pixels_class(pixels)).observe(step_ms / 1000)
        if together:
            self._packed.observe(together)
        if preview:
            self._previews.inc()

    def worker_ended(self, cause: str) -> None:
        """A worker has ended without being told to."""
        assert cause in CAUSES, cause
        self._restarts.labels(cause).inc()

    def committed(self, seconds: float) -> None:
        """The journal has committed."""
        self._commit.observe(seconds)

    def refused(self, code: str) -> None:
        """A client's request was answered with an error."""
        self._rejected.labels(code if code in CODES else QiedError.code).inc()

    def carried(self, direction: Direction, size: int) -> None:
        """So many bytes went over the link with a worker."""
        self._link.labels(direction).inc(size)

    def _preset(self, name: str) -> str:
        if name in self._presets:
            return name
        return OTHER_PRESET if name else NO_PRESET

    def _begin_at_zero(self) -> None:
        """Have the series that will be there, so that the first increase is one."""
        for outcome in OUTCOMES:
            self._jobs.labels(outcome, self._profile)
        for cause in CAUSES:
            self._restarts.labels(cause)
        for direction in DIRECTIONS:
            self._link.labels(direction)
        for stage in STAGES.values():
            self._stage.labels(stage)
        for size in PIXEL_CLASSES:
            self._step.labels(self._profile, size)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

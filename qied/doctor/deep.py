"""The deep checks: they read gigabytes and run an edit, so they run only on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from qied_client.credentials import LOCAL_FILE, read_credential
from qied_client.text import rate_text, size_text

from qied.doctor.checks.port import running_daemon
from qied.doctor.checkup import Check
from qied.doctor.deep_files import blobs, weights
from qied.doctor.deep_trial import EditTrial, stranger_is_refused
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning, worst
from qied.doctor.pcie import link_bytes_per_s
from qied.hardware.snapshot import Gpu
from qied.planning.edits.workload import workload_of
from qied.planning.requests.quote import peak_alone
from qied.progress import OnProgress
from qied.serving.model import ServedModel

_FAIR_SHARE = 0.6
"""Share of a link's rate that a pinned copy should reach; packets cost 10 to 15 %, slow chipsets some more."""
_LOW_SHARE = 0.5
"""Share of the predicted memory below which the meter saw something else than the edit."""
_REPORT = "report this with: qied doctor --deep --bundle FILE"
_STRANGERS_REMEDY = "Do not serve like this: reinstall pyzmq, and report it."

NOT_DEEP = "Only with --deep."


@dataclass(frozen=True)
class DeepChecks:
    """The deep checks of one run; ``do_trial`` starts the doctor's own daemon and does an edit, at most once."""

    watch: OnProgress
    do_trial: Callable[[], EditTrial]

    @property
    def checks(self) -> tuple[Check, ...]:
        asks = (self.weights, self.blobs, self.pcie, self.edit, self.strangers)
        return tuple(
            Check(identifier, why, ask, local=identifier != "deep.pcie")
            for (identifier, why), ask in zip(_TOLD, asks, strict=True)
        )

    @property
    def log(self) -> tuple[str, ...]:
        """Lines of the trial daemon's log, where one was started."""
        return self._trial.log if "_trial" in self.__dict__ else ()

    @cached_property
    def _trial(self) -> EditTrial:
        return self.do_trial()

    def weights(self, facts: Facts) -> Verdict:
        """Weight files have the hashes of their download."""
        return weights(facts, self.watch)

    def blobs(self, facts: Facts) -> Verdict:
        """Stored pictures have the hashes of their names."""
        return blobs(facts, self.watch)

    def pcie(self, facts: Facts) -> Verdict:
        """Copies to each card are about as fast as its link."""
        judged = [_rate_of(gpu) for gpu in facts.gpus]
        return worst(judged) if judged else skipped("There is no card.")

    def edit(self, facts: Facts) -> Verdict:
        """One edit takes no more memory than the plan says for exactly this edit."""
        if (reason := _no_edit(facts)) is not None:
            return skipped(reason)
        plan, model, trial = facts.made_plan, facts.model, self._trial
        assert plan is not None
        assert isinstance(model, ServedModel)
        if trial.failure is not None:
            raise trial.failure
        assert trial.edit is not None
        work = workload_of(trial.edit, model.profile, plan.max_reference_pixels)
        return _memory_of(trial.peak_bytes, peak_alone(plan, model.profile, work))

    def strangers(self, facts: Facts) -> Verdict:
        """A key that is not enrolled is refused, by the running daemon or by the doctor's own."""
        if running_daemon(facts.home) is not None:
            refused: bool | None = stranger_is_refused(read_credential(facts.home / LOCAL_FILE))
        elif (reason := _no_edit(facts)) is not None:
            return skipped(reason)
        else:
            refused = self._trial.stranger_refused
        if refused is None:
            return skipped("No daemon could be started.")
        if refused:
            return ok("A key that is not enrolled is refused.")
        return error("A key that is not enrolled was not refused.", _STRANGERS_REMEDY)


_TOLD = (
    ("deep.weights", "A flipped bit in a weight gives noise, not an error."),
    ("deep.blobs", "Results that clients wait for would be damaged."),
    ("deep.pcie", "Streamed blocks come over this link at every step."),
    ("deep.edit", "Admitted edits finish only if they use the memory that was planned."),
    ("deep.strangers", "Anyone who gets in can see all pictures and prompts."),
)


def not_deep() -> tuple[Check, ...]:
    """The same checks where they were not asked for: skipped, which is not passed."""
    return tuple(Check(*told, lambda facts: skipped(NOT_DEEP)) for told in _TOLD)


def _no_edit(facts: Facts) -> str | None:
    """Why no edit can be tried, or None."""
    if not isinstance(facts.model, ServedModel) or facts.made_plan is None:
        return "There is no model with a plan to try."
    if (process := running_daemon(facts.home)) is not None:
        return f"The running daemon (process {process}) holds the memory; stop it to run this check."
    return None


def _memory_of(measured: int, planned: int) -> Verdict:
    """The memory model gives a bound, so that nothing above it is in order; far below it nothing was measured."""
    said = f"An edit took {size_text(measured)} at its peak; at most {size_text(planned)} were planned for it."
    if measured > planned:
        return error(said, f"Lower worker.budget_bytes by {size_text(measured - planned)}, and {_REPORT}")
    if measured <= 0:
        return warning("The memory of an edit could not be measured: its meter read nothing.", f"Please {_REPORT}")
    if measured < planned * _LOW_SHARE:
        return warning(said, f"Larger pictures might fit than are planned: {_REPORT}")
    return ok(said)


def _rate_of(gpu: Gpu) -> Verdict:
    link, test = gpu.pcie, gpu.selftest
    generation = None if link is None else link.generation_max or link.generation
    if test is not None and test.host_to_device_error is not None:
        return error(
            f"Copies to {gpu.name} fail: {test.host_to_device_error}.", "Update the driver, or restart the machine."
        )
    if test is None or test.host_to_device_bytes_per_s is None or link is None or not (generation and link.width):
        return skipped(f"The link of {gpu.name} or its rate is not known.")
    most, measured = link_bytes_per_s(generation, link.width), test.host_to_device_bytes_per_s
    if measured >= most * _FAIR_SHARE:
        return ok(f"{rate_text(measured)} to {gpu.name}, of {rate_text(most)} that its link has.")
    return warning(
        f"{rate_text(measured)} to {gpu.name}; its link (generation {generation}, {link.width} lanes) "
        f"has {rate_text(most)}.",
        "Look for a riser cable, a slower slot, PCIe power saving in the firmware, and limits on pinned memory.",
    )

"""Checks of planning: the profile, the plan, and its warnings."""

from __future__ import annotations

from qied_client.text import size_text

from qied.config import Config
from qied.doctor.checks.host import shortage
from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning
from qied.planning.plan import Plan, Refusal

_NO_PLAN = "There is no plan."
_CAUSES = {
    "native_windows": "system.daemon",
    "driver_too_old": "driver.cuda",
    "torch_missing": "torch.installed",
    "torch_without_cuda": "torch.cuda_build",
    "no_kernels": "torch.kernels",
    "capability_too_old": "card.capability",
    "no_driver": "driver.present",
    "no_gpu": "driver.present",
}
"""Refusals that a check also explains."""
_SAID_ELSEWHERE = ("Locked memory is limited", "The card runs on ", "Other programs hold ")
"""Beginnings of the plan's warnings that host.memlock, card.pcie and card.memory give with their remedies."""


def configuration(facts: Facts) -> Verdict:
    """The configuration holds known keys with allowed values."""
    if isinstance(facts.config, Config):
        return ok("The configuration is valid.")
    return error(facts.config.message, facts.config.remedy)


def profile(facts: Facts) -> Verdict:
    """A hardware profile is for this machine."""
    plan = facts.made_plan
    return skipped(_NO_PLAN) if plan is None else ok(f"{plan.profile}, for {plan.gpu}.")


def made(facts: Facts) -> Verdict:
    """The model can be served here."""
    match facts.plan:
        case Plan() as plan:
            return ok(f"{plan.model} in {plan.precision}, {size_text(plan.predicted_peak_bytes)} at its peak.")
        case Refusal(code, message, remedy):
            return error(message, remedy, cause=shortage(facts) or _CAUSES.get(code, ""))
        case Exception() as defect:
            raise defect
    return skipped("Nothing was planned: see what comes before.")


def warnings(facts: Facts) -> Verdict:
    """The plan has nothing to warn of."""
    plan = facts.made_plan
    if plan is None:
        return skipped(_NO_PLAN)
    own = [text for text in plan.warnings if not text.startswith(_SAID_ELSEWHERE)]
    if not own:
        return ok("The plan has no other warnings.")
    return warning(" ".join(own), "See 'qied plan' for all of its reasons.")


CHECKS = (
    Check("config.valid", "'qied serve' does not start with a configuration that it cannot follow.", configuration),
    Check("plan.profile", "It decides the settings on this card.", profile),
    Check("plan.made", "Without a plan nothing can be served here.", made),
    Check("plan.warnings", "It works, within these limits.", warnings),
)

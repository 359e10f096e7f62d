"""The deep checks judge what was measured; what could not be tried has not passed."""

from __future__ import annotations

import pytest
from qied_client.errors import SetupError

from qied.doctor.checkup import run_checks
from qied.doctor.deep import DeepChecks
from qied.doctor.deep_trial import EditTrial
from qied.doctor.findings import Status
from qied.edit import EditSpec
from qied.planning.edits.workload import workload_of
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.quote import peak_alone
from qied.resources import builtin_model_folder
from qied.serving.model import ServedModel

GB = 10**9


def nothing(what, done, total):
    pass


@pytest.fixture
def deep(facts):
    """The finding of one deep check, for a machine whose trial comes out so."""

    def find(identifier, trial=None, examined=None):
        trials = []

        def do_trial():
            trials.append(trial)
            return trial

        checks = DeepChecks(nothing, do_trial)
        checkup = run_checks(checks.checks, facts() if examined is None else examined)
        assert not checkup.traces, checkup.traces
        assert len(trials) <= 1, "one daemon is enough"
        return next(found for found in checkup.findings if found.id == identifier)

    return find


@pytest.fixture
def serving(facts, machine, planned):
    plan = planned(machine(), "builtin")
    return facts(model=ServedModel(builtin_model_folder(), shipped_profiles()["builtin"], "builtin"), plan=plan)


EDIT = EditSpec(
    images=("ab" * 32,),
    prompt="make it blue",
    negative_prompt=" ",
    seed=0,
    steps=2,
    true_cfg_scale=4.0,
    width=256,
    height=256,
)


@pytest.fixture
def alone(serving):
    """Bytes that the plan says for this one edit."""
    model = serving.model.profile
    return peak_alone(serving.plan, model, workload_of(EDIT, model, serving.plan.max_reference_pixels))


def test_an_edit_within_the_plan_is_fine(deep, serving, alone):
    assert deep("deep.edit", EditTrial(alone, True, EDIT), serving).status is Status.OK


def test_an_edit_above_what_is_planned_for_it_is_an_error_with_both_numbers(deep, serving, alone):
    assert alone + 1 < serving.plan.predicted_peak_bytes, "all edits of the largest size together may take more"
    found = deep("deep.edit", EditTrial(alone + 1, True, EDIT), serving)
    assert (found.status, "were planned" in found.message) == (Status.ERROR, True)


def test_an_edit_far_below_the_plan_is_a_warning(deep, serving, alone):
    found = deep("deep.edit", EditTrial(int(alone * 0.3), True, EDIT), serving)
    assert (found.status, "were planned" in found.message) == (Status.WARNING, True)


def test_a_meter_that_read_nothing_is_told_as_such(deep, serving):
    found = deep("deep.edit", EditTrial(0, True, EDIT), serving)
    assert (found.status, "could not be measured" in found.message) == (Status.WARNING, True)


def test_a_daemon_that_does_not_start_is_an_error_and_strangers_were_not_tried(deep, serving):
    trial = EditTrial(failure=SetupError("A daemon did not start. It said: no CUDA.", "See `qied serve`."))
    found = deep("deep.edit", trial, serving)
    assert (found.status, "no CUDA" in found.message) == (Status.ERROR, True)
    assert deep("deep.strangers", trial, serving).status is Status.SKIPPED


@pytest.mark.parametrize(("refused", "status"), [(True, Status.OK), (False, Status.ERROR), (None, Status.SKIPPED)])
def test_a_stranger_must_be_refused(deep, serving, refused, status):
    assert deep("deep.strangers", EditTrial(0, refused, EDIT), serving).status is status


@pytest.mark.parametrize("check", ["deep.edit", "deep.strangers"])
def test_without_a_model_nothing_is_tried(deep, check):
    assert deep(check).status is Status.SKIPPED


@pytest.mark.parametrize(
    ("rate", "status"),
    [(25 * GB, Status.OK), (19 * GB, Status.OK), (12 * GB, Status.WARNING), (None, Status.SKIPPED)],
)
def test_copies_should_be_about_as_fast_as_the_link(deep, facts, machine, rate, status):
    snapshot = machine(gpu={"selftest": {"host_to_device_bytes_per_s": rate}})
    assert deep("deep.pcie", None, facts(snapshot)).status is status


def test_a_narrow_link_is_judged_by_the_lanes_that_it_has(deep, facts, machine):
    link = {"generation": 4, "width": 4, "generation_max": 4, "width_max": 16}
    snapshot = machine(gpu={"pcie": link, "selftest": {"host_to_device_bytes_per_s": 6 * GB}})
    assert deep("deep.pcie", None, facts(snapshot)).status is Status.OK


def test_a_recorded_rate_is_judged_on_any_machine(deep, facts, machine):
    snapshot = machine(gpu={"selftest": {"host_to_device_bytes_per_s": 12 * GB}})
    assert deep("deep.pcie", None, facts(snapshot, this_machine=False)).status is Status.WARNING
    assert deep("deep.weights", None, facts(snapshot, this_machine=False)).status is Status.SKIPPED


def test_copies_that_fail_are_an_error(deep, facts, machine):
    snapshot = machine(gpu={"selftest": {"host_to_device_error": "illegal address"}})
    found = deep("deep.pcie", None, facts(snapshot))
    assert (found.status, "illegal address" in found.message) == (Status.ERROR, True)


def test_without_a_card_no_link_is_measured(deep, facts, machine):
    assert deep("deep.pcie", None, facts(machine(gpu=None))).status is Status.SKIPPED

"""What goes wrong while facts are put together is a fact itself."""

from __future__ import annotations

import pytest
from qied_client.errors import ConfigError, ModelNotFound

from qied.config import load_config
from qied.doctor.checkup import run_checks
from qied.doctor.examine import examine
from qied.doctor.report import document
from qied.planning.plan import Refusal
from qied.resources import builtin_model_folder
from qied.serving.model import ServedModel


@pytest.fixture
def look(machine, tmp_path):
    """Facts with this planner and configuration."""

    def make(planner, loaded=None, **overrides):
        return examine(
            machine(),
            load_config(None, {}, overrides) if loaded is None else loaded,
            planner,
            this_machine=True,
            home=tmp_path / "state",
            user_home=tmp_path,
            environ={},
        )

    return make


def refusing(snapshot, model, config):
    return Refusal("no_gpu", f"No card for {model.name}.", "Buy one.")


def breaking(snapshot, model, config):
    raise ZeroDivisionError


def test_the_model_that_is_configured_is_planned_for(look):
    facts = look(refusing, **{"model.path": "builtin"})
    assert isinstance(facts.model, ServedModel)
    assert facts.plan.message == "No card for builtin."


def test_a_folder_is_planned_for_by_the_profile_that_fits_it(look):
    facts = look(refusing, **{"model.path": str(builtin_model_folder())})
    assert facts.plan.message == "No card for builtin."


def test_without_a_model_the_real_one_is_planned_for(look):
    facts = look(refusing)
    assert isinstance(facts.model, ModelNotFound)
    assert facts.plan.message == "No card for qwen-image-edit-2511."


def test_without_a_valid_configuration_nothing_is_planned(look):
    facts = look(breaking, ConfigError("Wrong.", "Correct it."))
    assert (facts.model, facts.plan) == (None, None)


def test_a_planner_that_breaks_is_kept_for_its_check(look):
    assert isinstance(look(breaking).plan, ZeroDivisionError)


@pytest.mark.parametrize("planner", [refusing, breaking])
def test_the_document_has_the_refusal_or_nothing(look, planner):
    facts = look(planner)
    plan = document(run_checks((), facts), facts)["plan"]
    if planner is refusing:
        assert plan["refused"] == {
            "code": "no_gpu",
            "message": "No card for qwen-image-edit-2511.",
            "remedy": "Buy one.",
        }
    else:
        assert plan is None

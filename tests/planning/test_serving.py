"""What is served: one edit's price on each kind of worker, and its time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from qied_client.protocol.request import LoraChoice

from qied.edit import EditSpec
from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.edits.loras import LoraFacts
from qied.planning.edits.workload import workload_of
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.pace import Pace
from qied.planning.requests.serving import Serving, kind_of

REAL = shipped_profiles()["qwen-image-edit-2511"]
SPEC = EditSpec(("a" * 64,), "make it blue", None, 1, 20, 1.0, 1024, 1024)
Machine = Callable[..., Snapshot]


@pytest.fixture
def serving(machine: Machine) -> Serving:
    plans = [
        plan(machine(capability, gib), PlanRequest(REAL, shipped_hardware_profiles()))
        for capability, gib in (((8, 9), 24), ((8, 6), 12))
    ]
    assert all(isinstance(made, Plan) for made in plans)
    return Serving(REAL, tuple(plans))  # type: ignore[arg-type]


def test_an_edit_has_a_price_on_each_kind_of_worker(serving: Serving) -> None:
    prices = serving.footprints(SPEC)
    assert list(prices) == [kind_of(made.execution) for made in serving.plans]
    assert len({price.arena for price in prices.values()}) == 2


def test_where_steps_go_together_every_edit_is_promised_the_arena_that_they_share(serving: Serving) -> None:
    resident, streamed = serving.plans
    small = serving.footprints(replace(SPEC, width=256, height=256))
    assert small[kind_of(streamed.execution)].arena == streamed.arena_bytes
    assert small[kind_of(resident.execution)].arena < resident.arena_bytes


def test_workers_of_one_kind_share_a_price(serving: Serving) -> None:
    twice = Serving(REAL, (serving.plans[0], serving.plans[0]))
    assert len(twice.footprints(SPEC)) == 1


def test_every_admitted_edit_fits_beside_the_fixed_parts_of_its_plan(serving: Serving) -> None:
    for made in serving.plans:
        foot = Serving(REAL, (made,)).footprints(
            replace(SPEC, images=("a" * 64,) * 3, true_cfg_scale=4.0, negative_prompt=" ", mask="b" * 64)
        )[kind_of(made.execution)]
        fixed = sum(part.bytes for part in made.parts if part.name not in ("arena", "sessions"))
        assert fixed + foot.arena + made.sessions.at_max_pixels * foot.state <= made.budget_bytes


def test_the_largest_result_is_that_of_the_best_worker_and_references_that_of_the_smallest(serving: Serving) -> None:
    assert serving.max_pixels == max(made.max_pixels for made in serving.plans)
    smaller = replace(serving.plans[1], max_reference_pixels=300_000)
    assert Serving(REAL, (serving.plans[0], smaller)).max_reference_pixels == 300_000


def test_the_first_measured_step_replaces_the_guess_and_later_ones_move_it(serving: Serving) -> None:
    pace = Pace(serving)
    pace.learn(SPEC, 200.0)
    alone = pace.edit_ms(SPEC)
    assert 20 * 200 <= alone <= 25 * 200
    pace.learn(SPEC, 400.0)
    assert alone < pace.edit_ms(SPEC) < 2 * alone


def test_guidance_doubles_the_time_of_an_edit(serving: Serving) -> None:
    pace = Pace(serving)
    pace.learn(SPEC, 200.0)
    assert pace.edit_ms(replace(SPEC, true_cfg_scale=4.0, negative_prompt=" ")) == 2 * pace.edit_ms(SPEC)


def test_a_lora_takes_the_time_of_its_own_products(serving: Serving) -> None:
    """Rank 64 beside the twelve linears of each block, as Lightning has it."""
    lightning = LoraFacts(parameters=424_673_280, width=192)
    pace = Pace(replace(serving, loras={"fast": lightning}))
    plain = pace.step_gflop(SPEC)
    chosen = replace(SPEC, loras=(LoraChoice("fast"),))
    tokens = workload_of(SPEC, serving.profile, serving.max_reference_pixels).tokens
    assert pace.step_gflop(chosen) - plain == pytest.approx(tokens * 424_673_280 / 1e9)
    assert 1.02 < pace.step_gflop(chosen) / plain < 1.06
    assert pace.step_gflop(replace(SPEC, loras=(LoraChoice("fast", 0.0),))) == plain
    assert pace.step_gflop(replace(SPEC, loras=(LoraChoice("gone"),))) == plain

"""A text encoder whose layers stream is in 8 bits, unless somebody or something is against it, and the plan says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.choosing.text_precision import streamed_text_bytes
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.serving import kind_of
from qied.planning.wishes import Wishes

MODEL = shipped_profiles()["qwen-image-edit-2511"]
LARGE = PlanRequest(MODEL, shipped_hardware_profiles())
Machine = Callable[..., Snapshot]


def planned(snapshot: Snapshot, request: PlanRequest = LARGE, wished: str = "auto", **wishes: object) -> Plan:
    outcome = plan(snapshot, replace(request, wishes=Wishes(text_encoder_precision=wished, **wishes)))  # type: ignore[arg-type]
    assert isinstance(outcome, Plan), outcome
    return outcome


def test_the_layers_of_the_large_model_take_half_in_8_bits() -> None:
    assert streamed_text_bytes(MODEL, "stored") == pytest.approx(14.4e9, rel=0.02)
    assert streamed_text_bytes(MODEL, "int8-storage") == pytest.approx(7.2e9, rel=0.02)


def test_layers_that_stream_are_in_int8_and_the_plan_says_what_that_saves(machine: Machine) -> None:
    made = planned(machine((8, 9), 8))
    assert (made.execution.text_encoder, made.execution.text_encoder_precision) == ("streamed", "int8-storage")
    assert any("text encoder streams in INT8" in reason and "16 bits" in reason for reason in made.reasons)
    assert made.to_json()["text_encoder_precision"] == "int8-storage"
    assert made.sources["text_encoder_precision"] == "default"


def test_a_resident_text_encoder_stays_as_it_is_stored(machine: Machine) -> None:
    made = planned(machine((9, 0), 80))
    assert (made.execution.text_encoder, made.execution.text_encoder_precision) == ("resident", "stored")
    assert not any("text encoder" in reason for reason in made.reasons)


def test_who_asks_for_8_bits_gets_them_on_a_large_card_as_well(machine: Machine) -> None:
    made = planned(machine((9, 0), 80), wished="fp8-storage")
    assert (made.execution.text_encoder, made.execution.text_encoder_precision) == ("streamed", "fp8-storage")
    assert made.warnings == planned(machine((9, 0), 80)).warnings


def test_who_asks_for_it_as_stored_gets_that(machine: Machine) -> None:
    made = planned(machine((8, 9), 8), wished="stored")
    assert made.execution.text_encoder_precision == "stored"
    assert "text encoder streams as it is stored: asked for" in made.reasons


@pytest.mark.parametrize("wished", ["auto", "int8-storage"])
def test_what_cannot_be_quantised_stays_as_stored_and_only_who_asked_is_warned(machine: Machine, wished: str) -> None:
    made = planned(machine((8, 9), 8), replace(LARGE, text_encoder_as_stored="its files hold fp8_scaled"), wished)
    assert made.execution.text_encoder_precision == "stored"
    assert "text encoder streams as it is stored: its files hold fp8_scaled" in made.reasons
    warned = [each for each in made.warnings if "model.text_encoder_precision" in each]
    assert len(warned) == (wished != "auto")


def test_weights_that_are_copied_where_they_stream_are_counted_and_told(machine: Machine) -> None:
    copied = replace(LARGE, copied_text_weights=600_000_000)
    made, plain = planned(machine((8, 9), 8), copied), planned(machine((8, 9), 8))
    assert made.host_bytes - made.decoding_bytes == plain.host_bytes - plain.decoding_bytes + 1_200_000_000
    assert any("1.1 GiB of the text encoder are copied into host memory" in reason for reason in made.reasons)
    assert made.execution == plain.execution
    large = machine((9, 0), 80)
    assert planned(large, copied) == planned(large), "a resident one has left the host's memory"
    small = machine((8, 9), 8, host=16)
    refused = plan(small, replace(copied, copied_text_weights=8_000_000_000))
    assert isinstance(refused, Refusal) and refused.code == "host_memory_too_small"


def test_the_cpu_says_that_nothing_streams_there(machine: Machine) -> None:
    builtin = replace(LARGE, model=shipped_profiles()["builtin"])
    made = planned(machine((8, 9), 8), builtin, "int8-storage", device="cpu")
    assert made.execution.text_encoder_precision == "stored"
    assert any("on the CPU its layers do not stream" in warning for warning in made.warnings)


def test_workers_that_hold_it_otherwise_are_of_another_kind(machine: Machine) -> None:
    runs = [
        planned(machine((8, 9), 8), wished=wished).execution for wished in ("stored", "int8-storage", "fp8-storage")
    ]
    assert len({kind_of(run) for run in runs}) == 3


@settings(max_examples=40)
@given(data=st.data())
def test_8_bits_never_leave_less_room(data: st.DataObject, any_snapshot: st.SearchStrategy[Snapshot]) -> None:
    snapshot = data.draw(any_snapshot)
    precision = data.draw(st.sampled_from(["auto", "fp8-storage", "bf16"]))
    stored, made = (
        plan(snapshot, replace(LARGE, wishes=Wishes(precision=precision, text_encoder_precision=wished)))
        for wished in ("stored", "auto")
    )
    if isinstance(stored, Plan):
        assert isinstance(made, Plan)
        assert made.max_pixels >= stored.max_pixels
        assert made.execution.resident_blocks >= stored.execution.resident_blocks or made.max_pixels > stored.max_pixels
